"""ComfyUI's workflows, run without ComfyUI: a graph becomes a request, or the list of what stands in the way."""

export const workflow = {
  open: "Open a ComfyUI workflow",
  drop: "Drop the ComfyUI workflow to see what it does",
  title: "A ComfyUI workflow",
  reading: "Reading the workflow…",
  trouble: {
    json: "“{{name}}” is not JSON. Choose a workflow that ComfyUI saved or exported.",
    workflow:
      "“{{name}}” is JSON, but no workflow of ComfyUI's. Choose a file that its editor saved, or exported in the API format.",
    large: "“{{name}}” is too large for a workflow: at most 2 MB are read. Choose a smaller one.",
  },
  unsupported: {
    title_one: "A node stands in the way",
    title_other: "{{count}} nodes stand in the way",
    node: "Node {{id}}",
    comfyui:
      "Nothing is painted as long as a node cannot be run as it is meant. ComfyUI itself can run them: export the workflow in the API format and set up a `comfyui` backend with it.",
  },
  needs: {
    title: "What is missing here",
    model: "Checkpoint for “{{name}}”",
    adapter: "LoRA for “{{name}}”",
    choose: "Choose one of yours",
    none: "None are here",
    without: "Paint without it",
    unfit: "{{name}} (does not fit the checkpoint)",
    picture: "Picture for node {{node}}, instead of “{{name}}”",
    invite: "Drop or paste a picture here",
    sending: "Sending…",
    file: "Choose a file",
    another: "Choose another",
  },
  values: {
    title: "What you may want to change",
    firstSteps: "Steps of the first stage",
    own: "as in the workflow",
    idle: "Without effect in this workflow: its guidance is 1 everywhere.",
  },
  does: {
    title: "What it does",
    stage: "Stage {{number}}",
    with: "With {{names}}",
  },
  remarks: {
    differs: "The picture may differ from ComfyUI's",
    note: "Worth knowing",
    ignored_one: "{{count}} remark on what has no effect",
    ignored_other: "{{count}} remarks on what has no effect",
    node_one: "node {{ids}}",
    node_other: "nodes {{ids}}",
  },
  reason: {
    needs: "Choose what is missing first.",
    nodes: "The nodes above stand in the way.",
  },
  run: "Run its workflow",
};

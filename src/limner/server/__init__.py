"""The HTTP server: FastAPI, no torch. Routes read and write through `limner.service`; workers do the painting."""

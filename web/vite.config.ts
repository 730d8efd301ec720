import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const server = process.env.LIMNER_URL ?? "http://127.0.0.1:9000";
const ours = ["/api", "/v1", "/docs", "/openapi.json", "/health", "/ready", "/metrics"];

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  server: { proxy: Object.fromEntries(ours.map((path) => [path, server])) },
  build: {
    outDir: "../src/limner/server/static",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 900,
  },
});

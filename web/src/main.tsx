import "@fontsource-variable/fraunces/opsz.css";
import "@fontsource-variable/instrument-sans";
import "@mantine/core/styles.layer.css";
import "@mantine/notifications/styles.layer.css";
import "./app/app.css";

import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queryClient } from "./app/queries";
import { router } from "./app/router";
import { theme, variables } from "./app/theme";
import { startI18n } from "./i18n";
import { listen } from "./live/stream";

const root = document.getElementById("root");
if (root === null) throw new Error("The page has no element `root`.");

await startI18n();
const stop = listen(queryClient);
import.meta.hot?.dispose(stop);

createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto">
      <QueryClientProvider client={queryClient}>
        <Notifications position="bottom-right" limit={4} />
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);

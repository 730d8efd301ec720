/** The pages and their addresses. Every page is a chunk of its own; the create page is fetched with the first load. */

import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { gallerySearch } from "@/gallery/address";
import { Broken } from "@/parts/Broken";
import { NotFound } from "@/parts/NotFound";
import { Shell } from "./Shell";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound, errorComponent: Broken });

const createPage = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("@/create/CreatePage"), "CreatePage"),
});

const gallery = createRoute({
  getParentRoute: () => root,
  path: "/gallery",
  validateSearch: gallerySearch,
  component: lazyRouteComponent(() => import("@/gallery/GalleryPage"), "GalleryPage"),
});

const queue = createRoute({
  getParentRoute: () => root,
  path: "/queue",
  component: lazyRouteComponent(() => import("@/queue/QueuePage"), "QueuePage"),
});

export const SHELVES = ["models", "loras", "backends", "presets", "templates"] as const;
export type Shelf = (typeof SHELVES)[number];

const library = createRoute({
  getParentRoute: () => root,
  path: "/library/$shelf",
  component: lazyRouteComponent(() => import("@/library/LibraryPage"), "LibraryPage"),
});

const help = createRoute({
  getParentRoute: () => root,
  path: "/help",
  component: lazyRouteComponent(() => import("@/help/HelpPage"), "HelpPage"),
});

const settings = createRoute({
  getParentRoute: () => root,
  path: "/settings",
  component: lazyRouteComponent(() => import("@/settings/SettingsPage"), "SettingsPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([createPage, gallery, queue, library, help, settings]),
  defaultPreload: "intent",
  defaultErrorComponent: Broken,
  scrollRestoration: true,
  scrollToTopSelectors: ["#content"],
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

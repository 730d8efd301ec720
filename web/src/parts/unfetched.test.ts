import { expect, test } from "vitest";
import { isUnfetched } from "./unfetched";

test.each([
  "Unable to preload CSS for /assets/HelpPage-E4FNwq4O.css",
  "Failed to fetch dynamically imported module: http://localhost/assets/HelpPage.js",
  "error loading dynamically imported module: http://localhost/assets/HelpPage.js",
  "Importing a module script failed.",
])("a file that did not come is told from a fault: %s", (message) => {
  expect(isUnfetched(new TypeError(message))).toBe(true);
});

test("a fault of the page's own code is no missing file", () => {
  expect(isUnfetched(new TypeError("x is not a function"))).toBe(false);
});

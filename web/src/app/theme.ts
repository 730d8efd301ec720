/** The look: paper and ink, one accent (minium, the red that illuminators painted with), serif for titles. */

import { type CSSVariablesResolver, createTheme, type MantineColorsTuple, rem } from "@mantine/core";

const minium: MantineColorsTuple = [
  "#fdf0ec",
  "#f8ddd5",
  "#efb8a8",
  "#e69078",
  "#de6e50",
  "#d65535",
  "#c74426",
  "#b93a20",
  "#9c2f19",
  "#7e2412",
];

const dark: MantineColorsTuple = [
  "#ece6dc",
  "#cfc7ba",
  "#aaa193",
  "#7d756a",
  "#544d45",
  "#3d3731",
  "#2c2823",
  "#211e1a",
  "#191714",
  "#12100e",
];

const gray: MantineColorsTuple = [
  "#faf7f2",
  "#f3eee6",
  "#e8e1d6",
  "#d8cfc1",
  "#bdb2a1",
  "#968b7b",
  "#6b6256",
  "#514a41",
  "#37322c",
  "#221f1b",
];

export const SANS =
  '"Instrument Sans Variable", "PingFang SC", "Noto Sans SC", "Noto Sans CJK SC", "Microsoft YaHei", system-ui, sans-serif';
export const SERIF = '"Fraunces Variable", "Songti SC", "Noto Serif SC", "Noto Serif CJK SC", Georgia, serif';

export const theme = createTheme({
  colors: { minium, dark, gray },
  primaryColor: "minium",
  primaryShade: { light: 7, dark: 6 },
  black: "#221f1b",
  white: "#fffdf9",
  fontFamily: SANS,
  headings: {
    fontFamily: SERIF,
    fontWeight: "480",
    sizes: {
      h1: { fontSize: rem(32), lineHeight: "1.15" },
      h2: { fontSize: rem(22), lineHeight: "1.25" },
      h3: { fontSize: rem(17), lineHeight: "1.35" },
    },
  },
  defaultRadius: "md",
  radius: { xs: rem(4), sm: rem(6), md: rem(10), lg: rem(16), xl: rem(24) },
  cursorType: "pointer",
  respectReducedMotion: true,
  components: {
    Tooltip: { defaultProps: { openDelay: 350, withArrow: true, multiline: true, maw: 320 } },
    Modal: { defaultProps: { centered: true, overlayProps: { backgroundOpacity: 0.45, blur: 3 } } },
    ActionIcon: { defaultProps: { variant: "subtle", color: "gray" } },
    Paper: { defaultProps: { radius: "lg" } },
  },
});

/** Mantine's colour of errors is too dark to be read on dark paper. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {},
  dark: { "--mantine-color-error": "var(--mantine-color-red-4)" },
});

/** Bytes, hashes and moments as people read them, in the language of the page. */

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

/** Such as "12.2 MB"; powers of a thousand, as on the label of a disk. */
export function bytes(count: number, language: string): string {
  const power = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3)));
  const value = count / 1000 ** power;
  return new Intl.NumberFormat(language, {
    style: "unit",
    unit: UNITS[power],
    unitDisplay: "short",
    maximumFractionDigits: power === 0 || value >= 100 ? 0 : 1,
  }).format(value);
}

const SPANS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** Such as "3 minutes ago". Moments are in seconds since 1970. */
export function ago(moment: number, now: number, language: string): string {
  const passed = Math.max(0, now - moment);
  const words = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const [unit, seconds] = SPANS.find(([, span]) => passed >= span) ?? ["second", 1];
  return words.format(-Math.floor(passed / seconds) || 0, unit);
}

/** The beginning of a hash, enough to tell it from others. */
export const shortHash = (hash: string): string => hash.slice(0, 10);

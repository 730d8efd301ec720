/** Days as people name them: today, yesterday, a date. Days are those of this computer's time zone. */

/** Such as "2026-11-26", of a moment in seconds since 1970. */
export function dayOf(at: number): string {
  const date = new Date(at * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** The first moment of a day, or of one some days later; seconds since 1970. */
export function beginOf(day: string, later = 0): number {
  const [year, month, date] = day.split("-").map(Number) as [number, number, number];
  return new Date(year, month - 1, date + later).getTime() / 1000;
}

/** `dayOf` for many moments in a row: it asks the calendar once a day. */
export function dayFinder(): (at: number) => string {
  let [day, begin, end] = ["", 0, 0];
  return (at) => {
    if (at < begin || at >= end) {
      day = dayOf(at);
      [begin, end] = [beginOf(day), beginOf(day, 1)];
    }
    return day;
  };
}

/** The day some days ago, as `dayOf` names it. */
export function daysAgo(count: number, now = Date.now() / 1000): string {
  return dayOf(beginOf(dayOf(now), -count));
}

/** What stands over the pictures of a day. */
export function dayTitle(
  day: string,
  language: string,
  words: { today: string; yesterday: string },
  now = Date.now() / 1000,
): string {
  if (day === daysAgo(0, now)) return words.today;
  if (day === daysAgo(1, now)) return words.yesterday;
  const date = new Date(beginOf(day) * 1000);
  const isThisYear = date.getFullYear() === new Date(now * 1000).getFullYear();
  const how: Intl.DateTimeFormatOptions = { weekday: "long", day: "numeric", month: "long" };
  return new Intl.DateTimeFormat(language, isThisYear ? how : { ...how, year: "numeric" }).format(date);
}

function two(number: number): string {
  return String(number).padStart(2, "0");
}

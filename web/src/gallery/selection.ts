/** Which pictures are selected, and from where the next range goes. Pure. */

export type Selection = { ids: ReadonlySet<string>; anchor: string | null };

export const NONE: Selection = { ids: new Set(), anchor: null };

/** One more, or one less; ranges go from here on. */
export function toggled({ ids }: Selection, id: string): Selection {
  const changed = new Set(ids);
  if (!changed.delete(id)) changed.add(id);
  return { ids: changed, anchor: id };
}

/** With all from the anchor to here, in the order shown; without an anchor that is still shown, this one alone. */
export function ranged(selection: Selection, order: readonly string[], id: string): Selection {
  const [from, to] = [order.indexOf(selection.anchor ?? ""), order.indexOf(id)];
  if (from < 0 || to < 0) return { ids: new Set([...selection.ids, id]), anchor: id };
  const between = order.slice(Math.min(from, to), Math.max(from, to) + 1);
  return { ids: new Set([...selection.ids, ...between]), anchor: selection.anchor };
}

export function all(order: readonly string[]): Selection {
  return { ids: new Set(order), anchor: order[0] ?? null };
}

/** Without those that are no longer shown; the same object where nothing has changed. */
export function kept(selection: Selection, shown: ReadonlySet<string>): Selection {
  const left = [...selection.ids].filter((id) => shown.has(id));
  return left.length === selection.ids.size ? selection : { ids: new Set(left), anchor: selection.anchor };
}

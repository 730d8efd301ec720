/** Ids of the newest favourites; shares its answer with the gallery's favourites. */

import { useQuery } from "@tanstack/react-query";
import { reel } from "@/api/images";
import type { Reel } from "@/api/reel";

const NONE: ReadonlySet<string> = new Set();

export function useFavourites(): ReadonlySet<string> {
  const { data } = useQuery({ ...reel({ favourite: true }), select: idsOf });
  return data ?? NONE;
}

function idsOf(known: Reel): ReadonlySet<string> {
  return new Set(known.images.map((image) => image.id));
}

import { useQuery } from "@tanstack/react-query";
import { getRouteApi, useRouter, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { type Image, type ImageFilter, imageById, imagesBeside } from "@/api/images";
import type { GallerySearch } from "./address";
import { Compare } from "./Compare";
import { changed } from "./filters";
import { localeOf } from "./locale";
import type { ImageActions } from "./useImageActions";
import { Viewer } from "./Viewer";

const route = getRouteApi("/gallery");
const NEAR_END = 12;

/** The viewer or the comparison that the address names, over the gallery. Closing goes back to where they were opened. */
export function Overlays({
  search,
  filter,
  images,
  count,
  actions,
  onEnd,
  onClosed,
}: {
  search: GallerySearch;
  filter: ImageFilter;
  images: readonly Image[];
  count: number | undefined;
  actions: ImageActions;
  onEnd: () => void;
  onClosed: (id: string) => void;
}) {
  const { i18n } = useTranslation("gallery");
  const navigate = route.useNavigate();
  const router = useRouter();
  const openedHere = useRouterState({
    select: ({ location }) => (location.state as { openedHere?: boolean }).openedHere === true,
  });
  const id = search.image;
  const at = images.findIndex((image) => image.id === id);
  const { data: far } = useQuery({ ...imageById(id ?? ""), enabled: id !== undefined && at < 0 });
  const { data: beside } = useQuery({
    ...imagesBeside(far ?? { id: "", created_at: 0 }, filter),
    enabled: id !== undefined && at < 0 && far !== undefined,
  });

  useEffect(() => {
    if (at >= 0 && at >= images.length - NEAR_END) onEnd();
  }, [at, images.length, onEnd]);

  const go = (changes: Parameters<typeof changed>[1], how: { replace?: boolean; openedHere: boolean }) =>
    void navigate({
      search: (now) => changed(now, changes),
      replace: how.replace ?? false,
      resetScroll: false,
      state: { openedHere: how.openedHere } as object,
    });
  const close = (changes: Parameters<typeof changed>[1]) => {
    if (openedHere) router.history.back();
    else go(changes, { replace: true, openedHere: false });
  };

  const pair = search.compare?.split(",");
  if (pair?.[0] && pair[1])
    return (
      <Compare
        ids={[pair[0], pair[1]]}
        step={(from, by) => {
          const place = images.findIndex((image) => image.id === from);
          return place < 0 ? undefined : images[place + by];
        }}
        onShow={(ids) => go({ compare: ids.join(",") }, { replace: true, openedHere })}
        onClose={() => close({ compare: null })}
      />
    );
  if (id === undefined) return null;
  const numbers = new Intl.NumberFormat(localeOf(i18n.language));
  const total = Math.max(count ?? 0, images.length);
  return (
    <Viewer
      id={id}
      known={images[at]}
      before={at < 0 ? beside?.before : images[at - 1]}
      after={at < 0 ? beside?.after : images[at + 1]}
      position={at < 0 ? "" : `${numbers.format(at + 1)} / ${numbers.format(total)}`}
      actions={actions}
      onShow={(image) => go({ image: image.id }, { replace: true, openedHere })}
      onCompare={(one, other) => go({ compare: `${one.id},${other.id}` }, { openedHere: true })}
      onClose={() => {
        onClosed(id);
        close({ image: null });
      }}
    />
  );
}

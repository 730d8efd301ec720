import { Button, Center, Loader, Title } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import { IconPhotoHeart, IconSearchOff } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { fetchMore, type Image, imageCount, imageKeys, useReel } from "@/api/images";
import type { Reel } from "@/api/reel";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { useTellError } from "@/parts/errors";
import { activeFilters, toFilter, without } from "./filters";
import classes from "./GalleryPage.module.css";
import { GallerySkeleton } from "./GallerySkeleton";
import { Grid } from "./Grid";
import { useHidden } from "./hidden";
import { Overlays } from "./Overlays";
import { SelectionBar } from "./SelectionBar";
import { all, kept, NONE, ranged, type Selection, toggled } from "./selection";
import { Toolbar } from "./Toolbar";
import { useImageActions } from "./useImageActions";
import { useZip } from "./useZip";

const route = getRouteApi("/gallery");

/** All pictures: to find, to look at, to compare, to keep and to go on from. */
export function GalleryPage() {
  const { t } = useTranslation(["gallery", "common"]);
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const client = useQueryClient();
  const tellError = useTellError();
  const filterKey = JSON.stringify(toFilter(search));
  const filter = useMemo(() => JSON.parse(filterKey) as ReturnType<typeof toFilter>, [filterKey]);
  const { reel, error, isPending, isPlaceholderData, refetch, more } = useReel(filter);
  const { data: count } = useQuery(imageCount(filter));
  const hidden = useHidden((state) => state.ids);
  const images = useMemo(() => reel?.images.filter(({ id }) => !hidden.has(id)) ?? [], [reel, hidden]);
  const ids = useMemo(() => images.map(({ id }) => id), [images]);

  const actions = useImageActions();
  const zip = useZip();
  const [chosen, setSelection] = useState<Selection>(NONE);
  const selection = useMemo(() => kept(chosen, new Set(ids)), [chosen, ids]);
  const selected = useMemo(() => images.filter(({ id }) => selection.ids.has(id)), [images, selection]);
  const [fetchingAll, setFetchingAll] = useState(false);
  const [current, setCurrent] = useState<string | null>(null);
  const [returning, setReturning] = useState<string | null>(null);

  const scroller = useRef<HTMLDivElement>(null);
  const bar = useRef<HTMLDivElement>(null);
  const covered = useCallback(() => bar.current?.offsetHeight ?? 0, []);
  const isOpen = search.image !== undefined || search.compare !== undefined;

  const wasFilter = useRef(filterKey);
  useEffect(() => {
    if (wasFilter.current === filterKey) return;
    wasFilter.current = filterKey;
    setSelection(NONE);
    scroller.current?.scrollTo({ top: 0 });
  }, [filterKey]);

  const { mutate: fetchNext, isPending: isFetchingNext, isError: hasFailed } = more;
  const hasMore = Boolean(reel?.next) && !isPlaceholderData;
  const onEnd = useCallback(() => {
    if (hasMore && !isFetchingNext && !hasFailed) fetchNext();
  }, [hasMore, isFetchingNext, hasFailed, fetchNext]);

  // The tiles are drawn anew only when they change themselves, so what they call must stay the same.
  const latest = useRef({ actions, ids, navigate });
  latest.current = { actions, ids, navigate };
  const tileActions = useMemo(
    () => ({
      open: ({ id }: Image) =>
        void latest.current.navigate({
          search: (now) => ({ ...now, image: id }),
          resetScroll: false,
          state: { openedHere: true } as object,
        }),
      toggle: ({ id }: Image, range: boolean) =>
        setSelection((now) => (range ? ranged(now, latest.current.ids, id) : toggled(now, id))),
      favour: (image: Image) => latest.current.actions.favour([image], !image.favourite),
      remove: (image: Image) => void latest.current.actions.remove([image]),
      focus: ({ id }: Image) => setCurrent(id),
    }),
    [],
  );

  const selectAll = async () => {
    setFetchingAll(true);
    try {
      while (await fetchMore(client, filter));
      const everything = client.getQueryData<Reel>(imageKeys.list(filter))?.images ?? [];
      setSelection(all(everything.map(({ id }) => id)));
    } catch (failure) {
      tellError(failure);
    }
    setFetchingAll(false);
  };

  useHotkeys(
    isOpen
      ? []
      : [
          ["mod+A", () => setSelection(all(ids))],
          ["Escape", () => setSelection(NONE)],
        ],
  );

  const active = activeFilters(search);
  const known = count === undefined ? undefined : Math.max(0, count);
  const isEmpty = !isPending && !error && !isPlaceholderData && images.length === 0 && !reel?.next;
  const setSearch = (next: typeof search) =>
    void navigate({ search: next, replace: true, resetScroll: false });
  const onReturned = useCallback(() => setReturning(null), []);

  return (
    <>
      <div ref={scroller} className={classes.scroller} data-scroll-restoration-id="gallery">
        <div className={classes.inner}>
          <header className={classes.head}>
            <Title order={1}>{t("title")}</Title>
            <span className={`${classes.count} numbers`} role="status">
              {known !== undefined && known > 0 && t(active.length ? "found" : "total", { count: known })}
            </span>
          </header>
          {!(isEmpty && active.length === 0) && <Toolbar search={search} onSearch={setSearch} barRef={bar} />}
          {isPending && <GallerySkeleton />}
          {error && !reel && (
            <div className={classes.notice}>
              <ErrorNotice error={error} onRetry={() => void refetch()} />
            </div>
          )}
          {isEmpty && active.length === 0 && (
            <Empty
              icon={<IconPhotoHeart size={44} stroke={1.2} />}
              title={t("empty.title")}
              hint={t("empty.hint")}
            >
              <Button component={Link} to="/" mt="sm" size="md">
                {t("empty.action")}
              </Button>
            </Empty>
          )}
          {isEmpty && active.length > 0 && (
            <Empty
              icon={<IconSearchOff size={40} stroke={1.2} />}
              title={t("nothing.title")}
              hint={t("nothing.hint")}
            >
              <Button variant="light" mt="sm" onClick={() => setSearch(without(search))}>
                {t("clearFilters")}
              </Button>
            </Empty>
          )}
          {images.length > 0 && (
            <Grid
              images={images}
              selection={selection}
              scroller={scroller}
              covered={covered}
              stale={isPlaceholderData}
              current={current}
              returning={returning}
              onReturned={onReturned}
              actions={tileActions}
              onEnd={onEnd}
            />
          )}
          {more.isError && (
            <div className={classes.notice}>
              <ErrorNotice error={more.error} onRetry={() => fetchNext()} />
            </div>
          )}
          {isFetchingNext && (
            <Center p="lg">
              <Loader type="dots" aria-label={t("common:loading")} />
            </Center>
          )}
        </div>
      </div>
      {selected.length > 0 && !isOpen && (
        <SelectionBar
          images={selected}
          total={known}
          busy={fetchingAll}
          onAll={() => void selectAll()}
          onZip={() => void zip(selected)}
          onFavour={(favourite) => actions.favour(selected, favourite)}
          onCompare={() =>
            void navigate({
              search: (now) => ({ ...now, compare: selected.map(({ id }) => id).join(",") }),
              resetScroll: false,
              state: { openedHere: true } as object,
            })
          }
          onDelete={() => {
            void actions.remove(selected);
            setSelection(NONE);
          }}
          onClear={() => setSelection(NONE)}
        />
      )}
      <Overlays
        search={search}
        filter={filter}
        images={images}
        count={known}
        actions={actions}
        onEnd={onEnd}
        onClosed={setReturning}
      />
    </>
  );
}

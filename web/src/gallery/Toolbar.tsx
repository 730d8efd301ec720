import {
  ActionIcon,
  Button,
  SegmentedControl,
  TextInput,
  Tooltip,
  UnstyledButton,
  VisuallyHidden,
} from "@mantine/core";
import { useDebouncedCallback, useMediaQuery } from "@mantine/hooks";
import {
  IconGridDots,
  IconHeart,
  IconHeartFilled,
  IconLayoutGrid,
  IconSearch,
  IconSortAscending,
  IconSortDescending,
  IconSquare,
  IconX,
} from "@tabler/icons-react";
import { type Ref, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { GallerySearch } from "./address";
import { FilterMenu } from "./FilterMenu";
import { activeFilters, changed, type FilterName, without } from "./filters";
import classes from "./Toolbar.module.css";
import { type GridSize, SIZES, useView } from "./view";

const PAUSE_MS = 300;
const SIZE_ICONS = { small: IconGridDots, medium: IconLayoutGrid, large: IconSquare };

/** Search, filters, order and size; below them what is filtered by, to be taken away one by one. */
export function Toolbar({
  search,
  onSearch,
  barRef,
}: {
  search: GallerySearch;
  onSearch: (search: GallerySearch) => void;
  barRef: Ref<HTMLDivElement>;
}) {
  const { t } = useTranslation("gallery");
  const size = useView((state) => state.size);
  const isWide = useMediaQuery("(min-width: 62em)");
  const OrderIcon = search.order === "oldest" ? IconSortAscending : IconSortDescending;
  const orderLabel = t(search.order === "oldest" ? "order.oldest" : "order.newest");
  const turn = () => onSearch(changed(search, { order: search.order === "oldest" ? null : "oldest" }));
  const favourites = search.favourite === true;
  const HeartIcon = favourites ? IconHeartFilled : IconHeart;

  return (
    <div className={classes.bar} ref={barRef}>
      <search className={classes.tools}>
        <SearchBox search={search} onSearch={onSearch} />
        <FilterMenu search={search} onSearch={onSearch} />
        <Tooltip label={t("filter.favourites")}>
          <ActionIcon
            size={40}
            radius="md"
            color={favourites ? "minium" : "gray"}
            variant={favourites ? "light" : "subtle"}
            aria-label={t("filter.favourites")}
            aria-pressed={favourites}
            onClick={() => onSearch(changed(search, { favourite: favourites ? null : true }))}
          >
            <HeartIcon size={20} stroke={1.6} />
          </ActionIcon>
        </Tooltip>
        <span className={classes.space} />
        {isWide ? (
          <Button
            variant="subtle"
            color="gray"
            h={40}
            leftSection={<OrderIcon size={19} stroke={1.6} />}
            onClick={turn}
            aria-label={t("order.label", { order: orderLabel })}
          >
            {orderLabel}
          </Button>
        ) : (
          <ActionIcon
            size={40}
            radius="md"
            onClick={turn}
            aria-label={t("order.label", { order: orderLabel })}
          >
            <OrderIcon size={20} stroke={1.6} />
          </ActionIcon>
        )}
        <SegmentedControl
          aria-label={t("size.label")}
          value={size}
          onChange={(value) => useView.setState({ size: value as GridSize })}
          data={SIZES.map((value) => {
            const Icon = SIZE_ICONS[value];
            return {
              value,
              label: (
                <span
                  title={t(`size.${value}`)}
                  style={{ display: "grid", placeItems: "center", height: 24 }}
                >
                  <Icon size={17} stroke={1.6} aria-hidden />
                  <VisuallyHidden>{t(`size.${value}`)}</VisuallyHidden>
                </span>
              ),
            };
          })}
        />
      </search>
      <Chips search={search} onSearch={onSearch} />
    </div>
  );
}

function SearchBox({
  search,
  onSearch,
}: {
  search: GallerySearch;
  onSearch: (search: GallerySearch) => void;
}) {
  const { t } = useTranslation("gallery");
  const [text, setText] = useState(search.q ?? "");
  const sent = useRef(search.q ?? "");
  const send = useDebouncedCallback((q: string) => {
    sent.current = q.trim();
    onSearch(changed(search, { q: q.trim() }));
  }, PAUSE_MS);
  useEffect(() => {
    // Only what came from elsewhere (back, a chip) is put in; typing goes before what the address knows already.
    if ((search.q ?? "") !== sent.current) {
      sent.current = search.q ?? "";
      setText(sent.current);
    }
  }, [search.q]);
  const type = (value: string) => {
    setText(value);
    send(value);
  };
  return (
    <TextInput
      className={classes.search}
      type="search"
      size="md"
      radius="md"
      aria-label={t("search")}
      placeholder={t("search")}
      value={text}
      maxLength={500}
      onChange={(event) => type(event.currentTarget.value)}
      leftSection={<IconSearch size={18} stroke={1.6} aria-hidden />}
      rightSection={
        text && (
          <ActionIcon aria-label={t("searchClear")} onClick={() => type("")}>
            <IconX size={16} />
          </ActionIcon>
        )
      }
    />
  );
}

function Chips({ search, onSearch }: { search: GallerySearch; onSearch: (search: GallerySearch) => void }) {
  const { t } = useTranslation("gallery");
  const active = activeFilters(search);
  if (active.length === 0) return null;
  const words: Record<FilterName, () => string> = {
    q: () => t("chip.q", { value: search.q }),
    model: () => t("chip.model", { value: search.model }),
    adapter: () => t("chip.adapter", { value: search.adapter }),
    shape: () => (search.shape ? t(`shape.${search.shape}`) : ""),
    favourite: () => t("filter.favourites"),
    dates: () => {
      if (search.from === search.to) return search.from ?? "";
      if (search.from && search.to) return t("chip.between", { from: search.from, to: search.to });
      return search.from ? t("chip.from", { from: search.from }) : t("chip.to", { to: search.to });
    },
    job: () => t("chip.job"),
  };
  return (
    <div className={classes.chips}>
      {active.map((name) => (
        <UnstyledButton
          key={name}
          className={classes.chip}
          aria-label={t("chip.remove", { filter: words[name]() })}
          onClick={() => onSearch(without(search, [name]))}
        >
          <span>{words[name]()}</span>
          <IconX size={14} aria-hidden />
        </UnstyledButton>
      ))}
      {active.length > 1 && (
        <UnstyledButton className={classes.clear} onClick={() => onSearch(without(search))}>
          {t("clearFilters")}
        </UnstyledButton>
      )}
    </div>
  );
}

/**
 * Pictures: the gallery's list, one picture's recipe, and what can be done to them.
 *
 * A list grows page by page and may hold thousands of pictures, so it is never fetched anew as a whole: what is fetched
 * anew is its beginning, and that is laid over what is known.
 */

import {
  keepPreviousData,
  type QueryClient,
  queryOptions,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { answer, api, type Schemas } from "./client";
import { appended, type Reel, refreshed } from "./reel";
import type { paths } from "./schema";

export type Image = Schemas["ImageView"];
export type ImageDetail = Schemas["ImageDetail"];
export type ImageFilter = Omit<
  NonNullable<paths["/api/images"]["get"]["parameters"]["query"]>,
  "cursor" | "limit"
>;

/** As many ids as one call may name. */
export const IDS_AT_ONCE = 1000;
const PAGE = 100;
const NEXT_PAGE = 200;

export const imageKeys = {
  all: ["images"] as const,
  lists: ["images", "list"] as const,
  list: (filter: ImageFilter) => ["images", "list", filter] as const,
  count: (filter: ImageFilter) => ["images", "count", filter] as const,
  one: (id: string) => ["images", "one", id] as const,
  beside: (at: number, filter: ImageFilter) => ["images", "beside", at, filter] as const,
};

function page(filter: ImageFilter, limit: number, cursor: string | null, signal?: AbortSignal) {
  const query = { ...filter, limit, ...(cursor === null ? {} : { cursor }) };
  return answer(api.GET("/api/images", { params: { query }, ...(signal ? { signal } : {}) }));
}

/** What is known of the pictures that a filter lets through; its beginning is always fresh. */
export const reel = (filter: ImageFilter) =>
  queryOptions({
    queryKey: imageKeys.list(filter),
    queryFn: async ({ client, queryKey, signal }): Promise<Reel> => {
      const head = await page(filter, PAGE, null, signal);
      const known = client.getQueryData<Reel>(queryKey);
      // Where the oldest come first, new pictures are at the end.
      const wantsTail = filter.order === "oldest" && known?.next === null && known.tail !== null;
      const tail = wantsTail ? await page(filter, NEXT_PAGE, known.tail, signal) : undefined;
      return refreshed(known, head, tail);
    },
    structuralSharing: false,
  });

/** The pictures that a filter lets through, and a way to get more of them. */
export function useReel(filter: ImageFilter) {
  const client = useQueryClient();
  const { data, error, isPending, isPlaceholderData, refetch } = useQuery({
    ...reel(filter),
    placeholderData: keepPreviousData,
  });
  const more = useMutation({ mutationFn: () => fetchMore(client, filter) });
  return { reel: data, error, isPending, isPlaceholderData, refetch, more };
}

/** Fetches the next page, where there is one; whether there are more. */
export async function fetchMore(client: QueryClient, filter: ImageFilter): Promise<boolean> {
  const key = imageKeys.list(filter);
  const cursor = client.getQueryData<Reel>(key)?.next;
  if (!cursor) return false;
  const next = await page(filter, NEXT_PAGE, cursor);
  const known = client.setQueryData<Reel>(key, (now) => now && appended(now, cursor, next));
  return Boolean(known?.next);
}

export const imageCount = ({ order: _, ...filter }: ImageFilter) =>
  queryOptions({
    queryKey: imageKeys.count(filter),
    queryFn: async ({ signal }) =>
      (await answer(api.GET("/api/images/count", { params: { query: filter }, signal }))).count,
  });

/** The newest pictures of a filter; a handful. */
export const latestImages = (filter: ImageFilter, limit: number) =>
  queryOptions({
    queryKey: [...imageKeys.all, "latest", filter, limit] as const,
    queryFn: async ({ signal }) =>
      (await answer(api.GET("/api/images", { params: { query: { ...filter, limit } }, signal }))).images,
    staleTime: 60_000,
  });

export const imageById = (id: string) =>
  queryOptions({
    queryKey: imageKeys.one(id),
    queryFn: ({ signal }) =>
      answer(api.GET("/api/images/{image_id}/metadata", { params: { path: { image_id: id } }, signal })),
    staleTime: 60_000,
  });

/** The pictures painted just before and just after a moment; for one that is far from what the list has reached. */
export const imagesBeside = (image: Pick<Image, "id" | "created_at">, filter: ImageFilter) =>
  queryOptions({
    queryKey: imageKeys.beside(image.created_at, filter),
    queryFn: async ({ signal }) => {
      const others = (found: Schemas["ImagePage"]) => found.images.find(({ id }) => id !== image.id);
      const [older, newer] = await Promise.all([
        page({ ...filter, order: "newest", created_before: image.created_at }, 1, null, signal),
        page({ ...filter, order: "oldest", created_after: image.created_at }, 2, null, signal),
      ]);
      const [before, after] = filter.order === "oldest" ? [older, newer] : [newer, older];
      return { before: others(before), after: others(after) };
    },
  });

/** Address of a picture of one's own; stays the same, so that the browser can keep it. */
export const imageUrl = (id: string) => `/api/images/${id}`;
export const thumbnailUrl = (id: string) => `/api/images/${id}/thumbnail`;

function markInLists(client: QueryClient, id: string, favourite: boolean): void {
  client.setQueriesData<Reel>({ queryKey: imageKeys.lists }, (known) => {
    const at = known?.images.findIndex((image) => image.id === id) ?? -1;
    const image = known?.images[at];
    return known && image ? { ...known, images: known.images.with(at, { ...image, favourite }) } : known;
  });
  client.setQueryData<ImageDetail>(imageKeys.one(id), (image) => image && { ...image, favourite });
}

/** Marks pictures, one call each; what is shown changes at once, and back where the server refuses. */
export function useMarkFavourite() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ ids, favourite }: { ids: string[]; favourite: boolean }) => {
      for (const id of ids) markInLists(client, id, favourite);
      for (const [at, id] of ids.entries()) {
        try {
          await answer(
            api.PATCH("/api/images/{image_id}", { params: { path: { image_id: id } }, body: { favourite } }),
          );
        } catch (error) {
          for (const unmarked of ids.slice(at)) markInLists(client, unmarked, !favourite);
          throw error;
        }
      }
    },
    onSettled: () => client.invalidateQueries({ queryKey: imageKeys.all }),
  });
}

function useForMany(act: (ids: string[]) => Promise<unknown>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (ids: string[]) => {
      for (let at = 0; at < ids.length; at += IDS_AT_ONCE) await act(ids.slice(at, at + IDS_AT_ONCE));
    },
    onSettled: () => client.invalidateQueries({ queryKey: imageKeys.all }),
  });
}

export const useDeleteImages = () =>
  useForMany((ids) => answer(api.POST("/api/images/delete", { body: { ids } })));

export const useRestoreImages = () =>
  useForMany((ids) => answer(api.POST("/api/images/restore", { body: { ids } })));

export function useUpload() {
  return useMutation({
    mutationFn: (file: Blob) =>
      answer(
        api.POST("/api/uploads", {
          body: { file: file as unknown as string },
          bodySerializer: () => {
            const form = new FormData();
            form.append("file", file, file instanceof File ? file.name : "picture.png");
            return form;
          },
        }),
      ),
  });
}

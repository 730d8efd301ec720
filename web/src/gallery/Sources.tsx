import { useTranslation } from "react-i18next";
import { type ImageDetail, thumbnailUrl } from "@/api/images";
import classes from "./Panel.module.css";

type Request = ImageDetail["recipe"]["request"];

/** The pictures that a picture was painted from or with a look at, and its mask. */
export function Sources({ request }: { request: Request }) {
  const { t } = useTranslation("gallery");
  const references = request.references ?? [];
  const sources = [
    ...references.map((source, at) => ({
      source,
      label:
        references.length > 1
          ? t("panel.source", { label: t("fact.references"), number: at + 1 })
          : t("fact.references"),
    })),
    ...(request.mask ? [{ source: request.mask, label: t("fact.mask") }] : []),
  ];
  const as = request.references_as ?? "start";
  if (sources.length === 0) return null;
  return (
    <section>
      <h2 className={classes.label}>{t(as === "start" ? "panel.sources" : `panel.${as}`)}</h2>
      <div className={classes.sources}>
        {sources.map(({ source, label }) =>
          source.image ? (
            <a key={label + source.image} href={`/gallery?image=${source.image}`}>
              <img src={thumbnailUrl(source.image)} alt={label} />
            </a>
          ) : source.upload ? (
            <img key={label + source.upload} src={`/api/uploads/${source.upload}`} alt={label} />
          ) : (
            <span key={label + source.path}>{source.path}</span>
          ),
        )}
      </div>
    </section>
  );
}

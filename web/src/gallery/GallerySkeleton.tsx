import classes from "./Grid.module.css";

const WIDTHS = [
  [18, 27, 16, 22, 17],
  [24, 15, 21, 19, 21],
  [17, 22, 28, 16, 17],
];

/** Where the pictures will be; seen only when they take a moment. */
export function GallerySkeleton() {
  return (
    <div className={classes.skeleton} aria-hidden style={{ display: "grid", gap: 8, paddingTop: 50 }}>
      {WIDTHS.map((row) => (
        <div key={row.join()} style={{ display: "flex", gap: 8, height: 212 }}>
          {row.map((width, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: boxes that never change
            <span key={at} style={{ flex: `${width} 0 0` }} />
          ))}
        </div>
      ))}
    </div>
  );
}

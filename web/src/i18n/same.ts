/** The same keys with other texts. Chinese has one plural form, so `_one` may be missing there. */
export type Same<T> = T extends string
  ? string
  : { [K in keyof T as K extends `${string}_one` ? never : K]: Same<T[K]> } & {
      [K in keyof T as K extends `${string}_one` ? K : never]?: Same<T[K]>;
    };

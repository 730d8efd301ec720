import type { Words } from "../index";
import type { Same } from "../same";
import { common } from "./common";
import { create } from "./create";
import { gallery } from "./gallery";
import { help } from "./help";
import { library } from "./library";
import { queue } from "./queue";
import { settings } from "./settings";
import { workflow } from "./workflow";

export const zh: Same<Words> = { common, create, gallery, help, library, queue, settings, workflow };

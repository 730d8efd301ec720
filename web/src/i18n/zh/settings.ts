import type { Words } from "../index";
import type { Same } from "../same";

export const settings: Same<Words["settings"]> = {
  title: "设置",
  groups: { page: "页面", kept: "保存在此浏览器中", about: "关于" },
  language: { label: "语言", hint: "无论选择哪种语言，提示词都可以用中文或英文书写。" },
  colours: {
    label: "配色",
    hint: "“跟随系统”会使用设备的设置。",
    light: "浅色",
    dark: "深色",
    auto: "跟随系统",
  },
  notify: {
    label: "图片完成时通知我",
    hint: "页面在后台时，显示系统通知。",
    denied: "浏览器已禁止本页面显示通知。请在浏览器设置中允许此地址。",
    insecure: "浏览器只允许 HTTPS 或本机服务器的页面显示通知。",
    unsupported: "此浏览器不能显示通知。",
  },
  history: {
    label: "提示词历史",
    hint_other: "已记住 {{count}} 条提示词，可用 Alt+↑ 和 Alt+↓ 切换。",
    none: "没有记住的提示词。",
    clear: "清除历史",
    cleared: "提示词历史已清除。",
  },
  form: {
    label: "创作表单",
    hint: "所有字段恢复默认值；提示词和模型保留。",
    clear: "重置表单",
    cleared: "表单已重置。",
  },
  undo: "撤销",
  about: {
    version: "limner 版本",
    licence: "许可证",
    licenceHint: "可自由使用、修改和分享。",
  },
};

import type { Words } from "../index";
import type { Same } from "../same";

export const workflow: Same<Words["workflow"]> = {
  open: "打开 ComfyUI 工作流",
  drop: "松开即可查看这个 ComfyUI 工作流的内容",
  title: "ComfyUI 工作流",
  reading: "正在读取工作流…",
  trouble: {
    json: "“{{name}}”不是 JSON 文件。请选择由 ComfyUI 保存或导出的工作流。",
    workflow: "“{{name}}”是 JSON，但不是 ComfyUI 工作流。请选择由其编辑器保存或以 API 格式导出的文件。",
    large: "“{{name}}”太大，不像是工作流：最多读取 2 MB。请选择更小的文件。",
  },
  unsupported: {
    title_other: "有 {{count}} 个节点无法运行",
    node: "节点 {{id}}",
    comfyui:
      "只要有节点无法按原意运行，就不会绘制。ComfyUI 本身可以运行它们：请以 API 格式导出工作流，并用它设置一个 `comfyui` 后端。",
  },
  needs: {
    title: "这里缺少的内容",
    model: "用于替代“{{name}}”的模型",
    adapter: "用于替代“{{name}}”的 LoRA",
    choose: "从已有的中选择",
    none: "这里还没有",
    without: "不使用它",
    unfit: "{{name}}（与模型不匹配）",
    picture: "节点 {{node}} 的图片，代替“{{name}}”",
    invite: "将图片拖放或粘贴到这里",
    sending: "正在发送…",
    file: "选择文件",
    another: "换一张",
  },
  values: {
    title: "可以修改的内容",
    firstSteps: "第一阶段的步数",
    own: "与工作流相同",
    idle: "在这个工作流中不起作用：所有阶段的引导都是 1。",
  },
  does: {
    title: "它会做什么",
    stage: "第 {{number}} 阶段",
    with: "使用 {{names}}",
  },
  remarks: {
    differs: "图片可能与 ComfyUI 的不同",
    note: "值得了解",
    ignored_other: "{{count}} 条不影响结果的说明",
    node_other: "节点 {{ids}}",
  },
  reason: {
    needs: "请先选择缺少的内容。",
    nodes: "上面的节点无法运行。",
  },
  run: "运行它的工作流",
};

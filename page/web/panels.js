// The dialogs "Settings" (with this device) and "Help" (with examples and shortcuts).

import { device, signOut } from "./access.js";
import { dialog } from "./dialogs.js";
import { make } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { keepSettings, settings, showSettings } from "./settings.js";
import { language, LANGUAGES, t } from "./texts.js";

/** @typedef {import("./client.js").Client} Client */

/**
 * @param {string} id
 * @param {string} label
 * @param {[string, string][]} choices
 * @param {string} value
 * @param {(value: string) => void} change
 */
function choice(id, label, choices, value, change) {
  const select = make("select", { id, onchange: ({ target }) => change(target.value) },
    ...choices.map(([name, text]) => make("option", { value: name, selected: name === value }, text)));
  return [make("label", { for: id }, label), select];
}

/** @param {Client} client */
export async function openSettings(client) {
  const change = (/** @type {() => void} */ act) => {
    act();
    keepSettings();
    showSettings();
  };
  const reader = make("input", { id: "set-reader", type: "checkbox", checked: settings.reader,
    onchange: () => change(() => (settings.reader = reader.checked)) });
  const { version, access, certificate } = device();
  const facts = [
    [t("deviceName"), client.hello?.device ?? location.hostname],
    [t("deviceVersion"), client.hello?.server ?? version ?? ""],
    [t("deviceAccess"), access === "token" ? t("accessToken") : access === "network" ? t("accessNetwork") : t("accessDevice")],
    [t("deviceTransport"), certificate === "none" ? t("transportPlain") : t("transportTls")],
  ];
  await dialog(t("settings"), (/** @type {(value: boolean) => void} */ close) => [
    make("div", { class: "form" },
      ...choice("set-theme", t("theme"), [
        ["system", t("themeSystem")], ["light", t("themeLight")], ["dark", t("themeDark")],
        ["contrast", t("themeContrast")],
      ], settings.theme, (value) => change(() => (settings.theme = /** @type {any} */ (value)))),
      ...choice("set-size", t("fontSize"), [14, 16, 18, 20, 24, 28].map((size) => [String(size), String(size)]),
        String(settings.size), (value) => change(() => (settings.size = Number(value)))),
      ...choice("set-language", t("language"), Object.entries(LANGUAGES), language, (value) => {
        change(() => (settings.language = value));
        location.reload();
      }),
      make("label", { class: "check" }, reader, " ", t("screenReader"))),
    make("h3", {}, t("device")),
    make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name ?? ""), make("dd", {}, value ?? "")])),
    make("div", { class: "buttons" },
      ...(access === "token" ? [make("button", { type: "button", onclick: async () => {
        await signOut();
        location.reload();
      } }, t("signOut"))] : []),
      make("button", { type: "button", class: "primary", onclick: () => close(true) }, t("close"))),
  ]);
}

/** @returns {Promise<import("./examples.js").Example | null>} The example that was chosen. */
export function openHelp() {
  const shortcuts = [
    ["Ctrl+Enter", t("keyRun")], ["Ctrl+.", t("keyStop")], ["Ctrl+S", t("keySave")],
    ["F6, Shift+F6", t("keyPanel")], ["Esc, Tab", t("keyLeave")], ["Ctrl+F", t("keyFind")],
    ["F2, Delete", t("keyFiles")], ["Ctrl+Shift+C, Ctrl+Shift+V", t("keyCopy")],
    ["Ctrl+Shift+Q", t("keyTerminal")], ["Esc, Esc", t("keyKeys")], ["F1", t("help")],
  ];
  return dialog(t("help"), (/** @type {(value: import("./examples.js").Example) => void} */ close) => [
    make("p", {}, t("helpText")),
    make("h3", {}, t("examples")),
    make("ul", { class: "examples" }, ...EXAMPLES.map((example) => make("li", {},
      make("button", { type: "button", onclick: () => close(example) }, title(example.id)),
      make("span", { class: "hint" }, example.file)))),
    make("h3", {}, t("shortcuts")),
    make("dl", { class: "keys" }, ...shortcuts.flatMap(([keys, text]) =>
      [make("dt", {}, make("kbd", {}, keys ?? "")), make("dd", {}, text ?? "")])),
    make("div", { class: "buttons" }, make("button", {
      type: "button", class: "primary", onclick: (event) => event.target.closest("dialog").close(),
    }, t("close"))),
  ]);
}

/** @param {string} id */
function title(id) {
  switch (id) {
    case "hello": return t("exampleHello");
    case "drawing": return t("examplePicture");
    case "keys": return t("exampleKeys");
    case "colours": return t("exampleTerminal");
    default: return t("exampleShell");
  }
}

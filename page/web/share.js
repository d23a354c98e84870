// The dialog with the link to watch a program, and its QR code. Loaded when it is asked for.

import encodeQR from "qr";
import { device } from "./access.js";
import { dialog } from "./dialogs.js";
import { make } from "./dom.js";
import { t } from "./texts.js";

/** Names by which no other machine reaches this device. */
const LOCAL = /^(localhost|.*\.localhost|127\..*|\[::1\])$/;

/** @param {string} link */
export async function share(link) {
  const field = make("input", { id: "share-link", type: "text", value: link, readonly: true, dir: "ltr",
    onfocus: (/** @type {FocusEvent} */ { target }) => /** @type {HTMLInputElement} */ (target).select() });
  const state = make("p", { id: "share-state", class: "hint", role: "status" });
  const copy = async () => {
    // Without TLS browsers have no clipboard for pages: then the link is selected.
    const isCopied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
    state.textContent = isCopied ? t("copied") : t("copyByKey");
    field.focus();
  };
  await dialog(t("share"), (/** @type {(value: boolean) => void} */ close) => [
    make("p", {}, [t("shareText"), ...(device().access === "token" ? [t("shareToken")] : [])].join(" ")),
    make("div", { class: "bar" },
      make("label", { for: "share-link" }, t("link")), field,
      make("button", { id: "share-copy", type: "button", class: "primary", onclick: copy }, t("copy"))),
    state,
    ...(LOCAL.test(new URL(link).hostname) ? [make("p", { class: "warning" }, t("shareHere"))] : []),
    picture(link),
    make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => close(true) }, t("close"))),
  ]);
}

/** @param {string} link */
function picture(link) {
  const rows = encodeQR(link, "raw", { border: 4 });
  const svg = (/** @type {string} */ tag, /** @type {Record<string, string>} */ attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const dots = rows.flatMap((row, y) => row.flatMap((isDark, x) => (isDark ? [`M${x} ${y}h1v1h-1z`] : [])));
  const code = svg("svg", { class: "qr", viewBox: `0 0 ${rows.length} ${rows.length}`, role: "img",
    "aria-label": t("qrCode"), "shape-rendering": "crispEdges" });
  // Cameras want dark on light, in every theme.
  code.append(svg("rect", { width: "100%", height: "100%", fill: "#fff" }), svg("path", { d: dots.join(""), fill: "#000" }));
  return code;
}

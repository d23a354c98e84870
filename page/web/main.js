// A first page: a program, "Run", and what it prints.

import { device, isLetIn, signIn, signOut, takeTokenFromAddress } from "./access.js";
import { t } from "./texts.js";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const element = (id) => /** @type {T} */ (document.getElementById(id));
const editor = /** @type {HTMLTextAreaElement} */ (element("editor"));
const token = /** @type {HTMLInputElement} */ (element("token"));
const run = /** @type {HTMLButtonElement} */ (element("run"));
const stop = /** @type {HTMLButtonElement} */ (element("stop"));
const output = element("output");
const notice = element("notice");

/** @type {WebSocket | null} */
let socket = null;

/**
 * @param {string} text
 * @param {boolean} [isError]
 */
function print(text, isError) {
  const piece = document.createElement("span");
  piece.textContent = text;
  if (isError) piece.className = "error";
  output.append(piece);
}

function start() {
  output.replaceChildren();
  run.disabled = true;
  const connection = new WebSocket(`${location.origin.replace(/^http/, "ws")}/run-py`);
  socket = connection;
  const start = { type: "start", data: { sourceScript: editor.value } };
  connection.onopen = () => connection.send(JSON.stringify(start));
  connection.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "started") stop.disabled = false;
    if (message.type === "stdout") print(message.data.output);
    if (message.type === "stderr") print(message.data.output, true);
    if (message.type === "error") print(`${message.data.message}\n`, true);
    if (message.type === "stopped") {
      print(`${t("ended")} ${message.data.exitCode}\n`);
      connection.close();
    }
  };
  connection.onclose = () => {
    run.disabled = false;
    stop.disabled = true;
    socket = null;
  };
}

/** @param {boolean} letIn */
function show(letIn) {
  element("program").hidden = !letIn;
  element("sign-in").hidden = letIn;
  element("sign-out").hidden = device().access !== "token";
  notice.textContent = letIn ? (device().access === "network" ? t("open") : "") : t("tokenNeeded");
}

/** @param {string} secret */
async function enter(secret) {
  const outcome = await signIn(secret);
  show(outcome === "in");
  if (outcome === "wrong") notice.textContent = t("tokenWrong");
  if (outcome === "later") notice.textContent = t("tokenLater");
}

/** @type {Record<string, string>} */
const labels = { run: t("run"), stop: t("stop"), "sign-out": t("signOut") };
for (const [id, text] of Object.entries(labels)) element(id).textContent = text;
document.querySelector('label[for="editor"]')?.append(t("editor"));
document.querySelector('label[for="token"]')?.append(t("token"));
document.querySelector("#sign-in button")?.append(t("signIn"));
output.setAttribute("aria-label", t("output"));
editor.value = 'print("hello")\n';
run.onclick = start;
stop.onclick = () => socket?.send(JSON.stringify({ type: "stop", data: null }));
element("sign-out").onclick = async () => {
  await signOut();
  show(false);
};
element("sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const secret = token.value;
  token.value = "";
  await enter(secret);
};

const shown = takeTokenFromAddress();
if (shown === null) show(await isLetIn());
else await enter(shown);

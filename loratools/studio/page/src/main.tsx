import { render } from "preact";
import { App } from "./app";
import { recallGuide } from "./guide";
import { recallAll } from "./state/choose";
import { followExplanation } from "./state/explain";
import { recallLanguage, t } from "./state/i18n";
import { followStack, keepDesk, socket } from "./state/live";
import { notify } from "./state/notices";
import { follow, routed } from "./state/route";
import { desk } from "./state/stack";
import { enter, firstPage, loadAll, loras, ready, server } from "./state/studio";
import { followTheme } from "./state/theme";
import { followFocus } from "./ui/focus";
import "./style/base.css";
import "./style/shell.css";
import "./style/blocks.css";
import "./style/pages.css";

async function start(): Promise<void> {
  recallLanguage();
  recallGuide();
  followTheme();
  followFocus();
  follow();
  render(<App />, document.getElementById("page")!);
  const isRouted = routed();
  if (!(await enter())) return;
  await loadAll();
  const lost = loras.peek() === null ? 0 : recallAll(); // without them every file would seem to be gone
  if (lost > 0) notify("note", t("stack.lost", { count: lost }));
  ready.value = true;
  if (!isRouted) firstPage(desk.peek().layers.length > 0);
  followStack();
  followExplanation();
  socket.start(server.peek()?.last_event ?? 0);
  addEventListener("online", () => socket.retry());
  addEventListener("focus", () => socket.retry());
  addEventListener("pagehide", () => {
    keepDesk();
    socket.stop();
  });
  addEventListener("pageshow", event => {
    if (event.persisted) socket.start(); // it was left, kept by the browser, and come back to
  });
}

void start();

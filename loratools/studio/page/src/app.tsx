// The frame around the pages: where one is, whether the server is there, language and colours, what went wrong.
import { useEffect } from "preact/hooks";
import { BlocksPage } from "./blocks/page";
import { EpochsPage } from "./epochs/page";
import { Guide, guideOpen, showGuide } from "./guide";
import { QueuePage } from "./queue/page";
import { TrainDialog, training } from "./queue/train_dialog";
import { choose, language, LANGUAGES, t, type Language } from "./state/i18n";
import { socket } from "./state/live";
import { dismiss, notices } from "./state/notices";
import { href, PAGES, route } from "./state/route";
import { busyJobs, connection, ready, refused, server } from "./state/studio";
import { narrow, theme, type Theme } from "./state/theme";
import { Button, Icon } from "./ui/controls";

export function App() {
  useEffect(() => {
    document.documentElement.lang = language.value;
    document.title = `${t(`page.${route.value.page}`)} · loratools studio`;
  }, [language.value, route.value.page]);
  if (refused.value) return <Refused />;
  const page = route.value.page;
  return (
    <>
      <a class="skip" href="#main" onClick={event => {
        event.preventDefault();
        document.querySelector<HTMLElement>("main")?.focus();
      }}>{t("skip")}</a>
      <Bar />
      {connection.value === "lost" || connection.value === "denied" ? <Lost /> : null}
      <Guide />
      <main id="main" tabIndex={-1}>
        {!ready.value ? <p class="hint loading">{t("loading")}</p>
          : page === "blocks" ? <BlocksPage /> : page === "epochs" ? <EpochsPage /> : <QueuePage />}
      </main>
      {narrow.value ? <footer class="foot"><Preferences /></footer> : null}
      {training.value && ready.value ? <TrainDialog /> : null}
      <Notices />
    </>
  );
}

function Bar() {
  const busy = busyJobs.value.length;
  return (
    <header class="bar">
      <h1>loratools <span>studio</span></h1>
      <nav aria-label={t("pages")}>
        {PAGES.map(name => (
          <a key={name} href={href(name)} aria-current={route.value.page === name ? "page" : undefined}>
            {t(`page.${name}`)}{name === "queue" && busy > 0 ? <span class="badge" aria-label={t("queue.running", { count: busy })}>{busy}</span> : null}
          </a>
        ))}
      </nav>
      <div class="bar-end">
        {server.value ? <span class="device" title={t("device")}>{server.value.device.name}</span> : null}
        {guideOpen.value ? null : <Button small label={t("guide.show")} onClick={() => showGuide(true)} />}
        {narrow.value ? null : <Preferences />}
      </div>
    </header>
  );
}

const Preferences = () => (
  <>
    <select aria-label={t("language")} title={t("language")} value={language.value} onChange={event => choose(event.currentTarget.value as Language)}>
      {Object.entries(LANGUAGES).map(([code, name]) => <option key={code} value={code}>{name}</option>)}
    </select>
    <select aria-label={t("theme")} title={t("theme")} value={theme.value} onChange={event => (theme.value = event.currentTarget.value as Theme)}>
      {(["system", "light", "dark"] as const).map(name => <option key={name} value={name}>{t(`theme.${name}`)}</option>)}
    </select>
  </>
);

const Lost = () => (
  <div class="lost" role="alert">
    <Icon name="warn" />
    <span>{t(connection.value === "denied" ? "denied" : "lost")}</span>
    {connection.value === "lost" ? <Button small label={t("lost.retry")} onClick={() => socket.retry()} /> : null}
  </div>
);

/** The server is there and will not have this browser: what to do stands on the page, which holds nothing else. */
function Refused() {
  const { sentence, remedy } = refused.value!;
  return (
    <main class="refused">
      <h1>loratools <span>studio</span></h1>
      <p role="alert"><Icon name="warn" /> {sentence}</p>
      {remedy ? <p>{remedy}</p> : null}
      <p class="hint">{t("refused.help")}</p>
      <Button kind="primary" label={t("refused.again")} onClick={() => location.reload()} />
    </main>
  );
}

const Notices = () => (
  <div class="notices" aria-live="polite">
    {notices.value.map(({ id, kind, text, remedy }) => (
      <div key={id} class={`notice ${kind}`} role={kind === "error" ? "alert" : "status"}>
        <Icon name={kind === "error" ? "warn" : "check"} />
        <span>{text}{remedy ? <small>{remedy}</small> : null}</span>
        <Button label={t("close")} icon="close" bare small onClick={() => dismiss(id)} />
      </div>
    ))}
  </div>
);

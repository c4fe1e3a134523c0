// Which epoch to take, in one sentence, and what it rests on.
import type { Verdict } from "../api/types";
import { said, t, tOr } from "../state/i18n";
import { Button, Details, Icon } from "../ui/controls";
import { short } from "./chart";

export function VerdictCard({ verdict, onUse }: { verdict: Verdict; onUse: (epoch: number) => void }) {
  const measures = [...new Set(verdict.epochs.flatMap(one => Object.keys(one.figures)))];
  return (
    <section class="panel verdict" aria-labelledby="verdict-title">
      <header>
        <h2 id="verdict-title"><Icon name="check" /> {t("verdict.title", { epoch: verdict.epoch })}</h2>
        <Button id="use-best" kind="primary" label={t("epoch.use.number", { epoch: verdict.epoch })} onClick={() => onUse(verdict.epoch)} />
      </header>
      {verdict.stale ? <p class="failure"><Icon name="warn" /> {said(verdict.stale)}</p> : null}
      <p class="sentence">{t("verdict.why")}</p>
      <ul class="reasons">{verdict.says.map((reason, n) => <li key={n}>{said(reason)}</li>)}</ul>
      {measures.length > 0 ? (
        <Details title={t("verdict.figures")}>
          <div class="scroll">
            <table class="figures">
              <thead><tr><th scope="col">{t("chart.epoch")}</th>{measures.map(name => <th key={name} scope="col">{tOr(`figure.${name}`, name)}</th>)}<th scope="col">{t("verdict.note")}</th><th /></tr></thead>
              <tbody>
                {verdict.epochs.map(one => (
                  <tr key={one.epoch} class={one.epoch === verdict.epoch ? "best" : ""}>
                    <th scope="row">{one.epoch}{one.epoch === verdict.epoch ? ` ${t("epoch.best")}` : ""}</th>
                    {measures.map(name => <td key={name}>{estimate(one.figures[name])}</td>)}
                    <td class="text">{said(one.note)}</td>
                    <td><Button small label={t("epoch.use")} onClick={() => onUse(one.epoch)} /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Details>
      ) : null}
    </section>
  );
}

const estimate = (figure: [number | null, number | null] | undefined): string => {
  const [mean, error] = figure ?? [null, null];
  if (mean === null) return "–";
  return error === null ? short(mean) : `${short(mean)} ± ${short(Number(error.toPrecision(1)))}`;
};

// What a search measured, before and after, on prompts and seeds that it had not seen.
import { pictureUrl } from "../api/http";
import type { Evidence as Measured } from "../api/types";
import { said, t, tOr } from "../state/i18n";
import { Button } from "../ui/controls";

export function Evidence({ evidence, onUse }: { evidence: Measured; onUse: (() => void) | null }) {
  return (
    <div class="evidence">
      <p>{said(evidence.sentence)}</p>
      {evidence.rows.length > 0 ? (
        <table class="figures">
          <thead><tr><th scope="col">{t("evidence.measure")}</th><th scope="col">{t("evidence.before")}</th><th scope="col">{t("evidence.after")}</th></tr></thead>
          <tbody>{evidence.rows.map(({ measure, better, before, after }) => (
            <tr key={measure}><th scope="row">{tOr(`figure.${measure}`, measure)} <small>{t(better === "lower" ? "figure.lower" : "figure.higher")}</small></th><td>{before}</td><td>{after}</td></tr>))}</tbody>
        </table>
      ) : null}
      {evidence.picture ? <a href={pictureUrl(evidence.picture)} target="_blank" rel="noreferrer"><img src={pictureUrl(evidence.picture, 512)} alt={t("evidence.sheet")} loading="lazy" /></a> : null}
      {evidence.notes.map((note, n) => <p key={n} class="hint">{said(note)}</p>)}
      {onUse ? <Button kind="primary" label={t("evidence.use")} onClick={onUse} /> : null}
    </div>
  );
}

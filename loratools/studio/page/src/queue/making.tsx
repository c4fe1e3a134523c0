// While the demo's run is made there is nothing to choose from yet: how far that is stands where the epochs will be.
import { said, t } from "../state/i18n";
import { href } from "../state/route";
import { jobs, server } from "../state/studio";
import { JobLine } from "./job_line";
import { ordered } from "./page";

/** Jobs that run or wait, of a demo; none once there is something to choose. */
export const making = () => (server.value?.demo ? ordered(jobs.value).filter(job => !["done", "stopped"].includes(job.state)) : []);

export function Making() {
  return (
    <div class="bench start making">
      <h2>{t("making.title")}</h2>
      <p>{t("making.help")}</p>
      <ol class="panel">
        {making().map(job => (
          <li key={job.id}>
            <a href={href("queue", job.id)}><b>{said(job.says)}</b></a>
            <JobLine job={job} />
          </li>
        ))}
      </ol>
    </div>
  );
}

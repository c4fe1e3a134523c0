// Opens the dialog of a training, wherever one may want to start one.
import { t } from "../state/i18n";
import { Button } from "../ui/controls";
import { training } from "./train_dialog";

export const TrainButton = () => <Button icon="plus" label={t("train.open")} onClick={() => (training.value = true)} />;

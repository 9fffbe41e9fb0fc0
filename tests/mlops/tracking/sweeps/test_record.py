from pathlib import Path

from mlops.tracking.runs import connect
from mlops.tracking.sweeps.record import PARENT, STATE_TAG, SweepRun


def test_the_runs_of_trials_become_children_and_keep_what_they_have(root: Path) -> None:
    client, experiment = connect()
    trained = client.create_run(experiment, tags={"prefect.flow_run_id": "f-trained"}).info.run_id
    client.log_param(trained, "train.steps", 400)
    for step in (100, 400):
        client.log_metric(trained, "training/validation_kid_digits", step / 1000, step=step)
    sweep = SweepRun("spring", "s-1", {"score": "fid"})
    answer = sweep.trial("f-trained", 0, {"train.beta1": 0.5}, "RUNNING", {})
    assert (answer["run_id"], answer["curve"]) == (trained, {25: 0.1, 100: 0.4})
    again = SweepRun("spring", "s-1", {"score": "fid"})
    assert again.id == sweep.id
    for _ in range(2):
        again.trial("f-trained", 0, {}, "COMPLETE", {"fid_digits": 2.0})
    run = client.get_run(trained)
    assert (run.data.tags[PARENT], run.data.tags[STATE_TAG]) == (sweep.id, "COMPLETE")
    assert run.data.metrics["fid_digits"] == 2.0
    assert len(client.get_metric_history(trained, "fid_digits")) == 1


def test_a_trial_that_did_not_train_gets_a_run_once_it_ends(root: Path) -> None:
    client, experiment = connect()
    sweep = SweepRun("summer", "s-2", {})
    assert sweep.trial("f-cached", 3, {"train.beta1": 0.5}, "RUNNING", {}) == {}
    first = sweep.trial("f-cached", 3, {"train.beta1": 0.5}, "COMPLETE", {"fid": 1.5})
    assert sweep.trial("f-cached", 3, {"train.beta1": 0.5}, "COMPLETE", {"fid": 1.5}) == first
    children = client.search_runs([experiment], f"tags.`{PARENT}` = '{sweep.id}'")
    assert [run.info.run_id for run in children] == [first["run_id"]]
    assert (children[0].data.params["train.beta1"], children[0].info.status) == ("0.5", "FINISHED")
    (root / "parallel.png").write_bytes(b"picture")
    sweep.end([str(root / "parallel.png")], {"trials": 1}, "FINISHED")
    assert client.get_run(sweep.id).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(sweep.id)] == ["parallel.png"]

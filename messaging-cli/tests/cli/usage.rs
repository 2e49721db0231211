//! Wrong arguments: exit code 2, and an error that names the argument.

use crate::asked::run;

#[tokio::test]
async fn wrong_arguments_name_themselves() {
    let redis = ["--url", "redis://127.0.0.1:1"];
    let cases: [(&[&str], &str); 10] = [
        (&["tail"], "<TOPIC>"),
        (&["tail", "t", "--from", "noon"], "--from"),
        (&["dead-letters", "list", "g", "t", "--since", "yesterday"], "--since"),
        (&["dead-letters", "replay", "g", "t", "--rate", "fast"], "--rate"),
        (&["publish", "t", "x", "--header", "novalue"], "--header"),
        (&["publish", "t", "x", "--source", "here"], "--name"),
        (&["lag", "g"], "--topic"),
        (&["doctor", "--from", "memory:"], "--to"),
        (&["doctor", "g"], "--topic"),
        (&["tail", "t", "--limit", "-1"], "--limit"),
    ];
    for (arguments, named) in cases {
        let ran = run(&[&redis[..], arguments].concat()).await;
        assert!(ran.code == 2 && ran.err.contains(named), "{arguments:?}: {ran:?}");
    }
}

#[tokio::test]
async fn the_bus_of_a_process_cannot_be_reached_from_another() {
    for command in [&["tail", "t"][..], &["lag", "g", "--topic", "t"], &["doctor"], &["dead-letters", "list", "g", "t"]]
    {
        let ran = run(&[&["--url", "memory:"][..], command].concat()).await;
        assert!(ran.code == 2 && ran.err.contains("no other process can reach"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_broker_has_to_be_named_and_known() {
    let none = run(&["tail", "t"]).await;
    assert!(none.code == 2 && none.err.contains("MESSAGING_URL") && none.err.contains("--url"), "{none:?}");
    let unknown = run(&["--url", "nats://me:hunter2@h", "tail", "t"]).await;
    assert!(unknown.code == 2 && unknown.err.contains("nats"), "{unknown:?}");
    assert!(!unknown.err.contains("hunter2"), "{unknown:?}");
    let option = run(&["--url", "redis://127.0.0.1:1?colour=red", "tail", "t"]).await;
    assert!(option.code == 2 && option.err.contains("colour"), "{option:?}");
}

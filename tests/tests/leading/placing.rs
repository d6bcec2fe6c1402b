//! What the leader decides reaches the nodes: a Dataset that is read gets copies where it is read.

use agent::report::speaker::Demand;
use operator_api::report::v1::{down, instruction};
use tests::cluster::fleet::Spec;
use tests::cluster::wait::{Seen, until};

use super::stage::{BYTES, LIMIT, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_dataset_gets_copies_where_it_is_read() {
    let zones = vec!["a".to_owned(), "b".to_owned()];
    let mut stage = Stage::set(Spec { zones, ..Spec::new("led", 4) }).await;
    stage.dataset("hot").await;
    stage.dataset("cold").await;
    let both = ["hot", "cold"];
    let holder = stage.agent("led-0", &both, &both, None).await;
    let demand = Demand { readers: 4, rate: 200 << 20, hit: 0, miss: 8 << 30 };
    let reader = stage.agent("led-1", &both, &[], Some(("hot", demand))).await;
    // Its agent has no mount of it: it could not bring it in.
    let other = stage.agent("led-2", &["cold"], &[], None).await;

    let mut told = Vec::new();
    until("the reader's node was told to bring in all of it", LIMIT, async || {
        for heard in reader.heard() {
            let down::Kind::Instruction(heard) = heard else { continue };
            assert!(heard.id.starts_with("place/") && heard.id.ends_with("/0"), "{heard:?}");
            assert!(heard.reason.starts_with("placed here: read here: "), "{heard:?}");
            let Some(instruction::Work::Fetch(fetch)) = heard.work else { panic!("{heard:?}") };
            let extent = fetch.extent.unwrap();
            assert_eq!(extent.version_low, 7);
            told.extend(extent.chunks.chunks_exact(2).flat_map(|run| run[0]..run[0] + run[1]));
        }
        let count = told.len();
        Ok(if count as u64 == BYTES >> 22 { Seen::Done(()) } else { Seen::NotYet(format!("{count} chunks")) })
    })
    .await
    .unwrap();
    told.sort_unstable();
    assert!(told.iter().copied().eq(0..(BYTES >> 22) as u32), "each chunk once");

    // The copies are known, so that pods would go there, and nothing more is told to anybody.
    until("a pod would go to either", LIMIT, async || {
        let words = stage.would_be_steered("hot").await;
        let both = words.contains("led-0 (1.0 GiB)") && words.contains("led-1 (1.0 GiB)");
        Ok(if both { Seen::Done(()) } else { Seen::NotYet(words) })
    })
    .await
    .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    for agent in [&holder, &reader, &other] {
        let instructions = agent.heard().into_iter().filter(|k| matches!(k, down::Kind::Instruction(_)));
        assert_eq!(instructions.count(), 0, "nothing is told twice, or without a reader");
    }
    stage.end_operator().await;
}

//! The benchmark's case `restart`, small and fast: what it compares is what agents hold, not what was told before.

use std::time::Duration;

use tests::agents::world::World;
use tests::bench::reporting;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_while_reports_change_comes_to_know_what_agents_hold() {
    let world = World { nodes: 12, datasets: 40, per_node: 6, runs: 3, seed: 4 };
    let figures = reporting::restart(world, Duration::from_millis(500)).await.unwrap();
    // That it comes to know it is what `restart` itself fails without. Lives are too short here for placement.
    let doubles = figures.iter().find(|figure| figure.metric == "double_instructions").unwrap();
    assert_eq!(doubles.value, 0.0);
}

//! What priority and fairness costs a request that finds a seat free.

use anyhow::Context;

use super::Figures;

const REQUESTS: u32 = 200_000;
const TIMES: usize = 5;

pub(super) async fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for _ in 0..TIMES {
        let cost = apiserver::seat_cost(REQUESTS).await;
        let cost = cost.context("there was no seat")?;
        all.push(cost.as_nanos() as f64);
    }
    figures.add("a free seat", crate::report::median(all), "ns");
    Ok(())
}

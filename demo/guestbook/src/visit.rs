//! A visitor: leaves a message and looks whether it is there.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a message may take from the master to the slaves; the first time, they have to find each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a page that nothing announces changes of.
const PAUSE: Duration = Duration::from_millis(200);

/// Leaves a message of its own and waits until every read shows it.
pub(crate) fn sign(site: &str) -> anyhow::Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .max_redirects(0)
        .build()
        .into();
    let message = format!("Greetings from process {}", std::process::id());
    let page = eventually(|| agent.get(site).call()?.into_body().read_to_string())?;
    if !page.contains("<h1>Guestbook</h1>") {
        bail!("the page is not the Guestbook");
    }
    let url = format!("{site}/messages");
    eventually(|| agent.post(&url).send_form([("message", message.as_str())]))?;
    let began = Instant::now();
    loop {
        let seen = agent
            .get(&url)
            .call()
            .and_then(|answer| answer.into_body().read_to_string());
        match seen {
            Ok(messages) if messages.contains(&message) => return Ok(()),
            _ if began.elapsed() > PATIENCE => {
                bail!(
                    "the message did not reach the slaves in {} s: {seen:?}",
                    PATIENCE.as_secs()
                )
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

/// A container that runs may need a moment more until its program listens; these pods have no readiness probe.
fn eventually<T>(action: impl Fn() -> Result<T, ureq::Error>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match action() {
            Ok(value) => return Ok(value),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

//! Many small requests to another registry.

use tokio::task::{JoinError, JoinSet};

/// Questions that are open at the same time.
const QUESTIONS: usize = 6;

/// Asks all questions, some at the same time, and takes the answers as they come.
pub(super) async fn ask_all<Q, A, E>(
    questions: impl IntoIterator<Item = Q>,
    mut take: impl FnMut(Result<A, JoinError>) -> Result<(), E>,
) -> Result<(), E>
where
    Q: Future<Output = A> + Send + 'static,
    A: Send + 'static,
{
    let mut open = JoinSet::new();
    for question in questions {
        if open.len() >= QUESTIONS
            && let Some(answer) = open.join_next().await
        {
            take(answer)?;
        }
        open.spawn(question);
    }
    while let Some(answer) = open.join_next().await {
        take(answer)?;
    }
    Ok(())
}

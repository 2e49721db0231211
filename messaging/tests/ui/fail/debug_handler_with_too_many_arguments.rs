use messaging::{Attempt, Result, debug_handler};

#[debug_handler]
async fn on_order_created(
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
    _: Attempt,
) -> Result<()> {
    Ok(())
}

fn main() {}

use messaging::{Result, State, debug_handler};

#[derive(Clone)]
struct Mailer;

#[debug_handler]
async fn on_order_created(_: State<Mailer>, order: String) -> Result<()> {
    drop(order);
    Ok(())
}

fn main() {}

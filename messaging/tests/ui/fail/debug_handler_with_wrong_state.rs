use messaging::{Result, State, debug_handler};

struct App;
#[derive(Clone)]
struct Mailer;

#[debug_handler(state = App)]
async fn on_order_created(_: State<Mailer>) -> Result<()> {
    Ok(())
}

fn main() {}

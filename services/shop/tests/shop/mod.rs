//! The real program in a folder of its own.

use std::path::Path;

use service_testing::{Client, Ended, Program};

pub(crate) struct Shop {
    pub(crate) program: Program,
    pub(crate) orders: Client,
    pub(crate) notifications: Client,
}

impl Shop {
    pub(crate) async fn open(data: &Path) -> Self {
        let environment = [
            ("SHOP_DATA_DIR", data.to_str().unwrap()),
            ("SHOP_ORDERS_ADDR", "127.0.0.1:0"),
            ("SHOP_NOTIFICATIONS_ADDR", "127.0.0.1:0"),
        ];
        let mut program = Program::start(env!("CARGO_BIN_EXE_shop"), &[], environment);
        // The hint holds both addresses: what it says to try is what is tried here.
        let hint = program.line_with("the shop is open").await;
        let address = |path: &str| {
            let (before, _) = hint.split_once(path).unwrap_or_else(|| panic!("{path} is not in: {hint}"));
            before.rsplit_once("http://").unwrap().1.to_owned()
        };
        Self {
            orders: Client::new(address("/api/v1/orders/")),
            notifications: Client::new(address("/api/v1/notifications/")),
            program,
        }
    }

    pub(crate) async fn closed(self) {
        self.program.terminate();
        let Ended { status, log } = self.program.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

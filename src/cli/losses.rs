//! `segue losses`

use super::{
    Failure, LossesArgs, client, print, show,
    status::{now_unix_s, typed},
};
use crate::status::LossesStatus;

/// Prints what was left out since the sidecar's start.
///
/// # Errors
/// No sidecar at that address, or an answer that makes no sense.
pub async fn run(args: &LossesArgs) -> Result<(), Failure> {
    let answer = client::get(&args.admin.address()?, "/v1/losses").await?;
    if args.json {
        return print(&format!("{answer:#}\n"));
    }
    let losses: LossesStatus = typed(answer)?;
    print(&show::losses(&losses, now_unix_s()))
}

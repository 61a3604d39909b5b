//! `segue translate`

use segue_wire::LossPolicy;

use super::{Failure, TranslateArgs, client, print, status::typed, table::plain};
use crate::status::{TranslationChange, TranslationStatus};

/// Changes how the sidecar translates. `user` is who asks, for the record.
///
/// # Errors
/// No sidecar at that address, or the sidecar's own reason why it refused.
pub async fn run(args: &TranslateArgs, user: Option<String>) -> Result<(), Failure> {
    let change = TranslationChange {
        mode: Some(args.mode.to_string()),
        loss: args.loss.map(|loss| LossPolicy::from(loss).label().to_owned()),
        who: user,
        reason: args.reason.clone(),
        force: args.force,
    };
    let body = serde_json::to_vec(&change).map_err(Failure::failed)?;
    let admin = args.admin.address()?;
    if args.all {
        client::put(&admin, "/v1/translation/all", body).await?;
        return print("agreed for all nodes: segue upgrade status shows it\n");
    }
    let answer = client::put(&admin, "/v1/translation", body).await?;
    let TranslationStatus { mode, loss, .. } = typed(answer)?;
    print(&format!("translation {}, loss {}\n", plain(&mode), plain(&loss)))
}

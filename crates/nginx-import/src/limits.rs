//! `[limits]`. The gateway has one value of each for both ports.

use crate::classify::Servers;
use crate::directive::Directive;
use crate::draft::Draft;
use crate::sourced::Sourced;
use crate::units;

/// Translates the limits.
pub(crate) fn translate(draft: &mut Draft<'_>, tree: &[Directive], servers: &Servers<'_>) {
    let of_servers = |name: &'static str| -> Vec<&Directive> {
        servers
            .incus
            .iter()
            .filter_map(|incus_server| incus_server.server.scope.first(name))
            .collect()
    };
    let duration = |directive: &Directive| units::duration(directive.value());
    limit(draft, "header_timeout", &of_servers("client_header_timeout"), &duration);
    limit(
        draft,
        "max_header_size",
        &of_servers("large_client_header_buffers"),
        &units::header_size,
    );
    limit(draft, "idle_timeout", &of_servers("keepalive_timeout"), &duration);
    let drains: Vec<_> = tree
        .iter()
        .filter(|directive| directive.is("worker_shutdown_timeout"))
        .collect();
    limit(draft, "drain_timeout", &drains, &duration);
}

fn limit(
    draft: &mut Draft<'_>,
    key: &'static str,
    directives: &[&Directive],
    convert: &dyn Fn(&Directive) -> Option<String>,
) {
    let mut current: Option<String> = None;
    for directive in directives {
        match (convert(directive), &current) {
            (Some(value), None) => {
                draft
                    .config
                    .limits
                    .push((key, Sourced::new(value.clone(), &directive.position)));
                current = Some(value);
            }
            (Some(value), Some(current)) if value == *current => {}
            (_, current) => draft.report.unsupported(format!(
                "{}: `{} {}` is not used for `limits.{key}`, which {}",
                directive.position,
                directive.name,
                directive.arguments.join(" "),
                current.as_ref().map_or_else(
                    || "keeps its default".to_owned(),
                    |current| format!("is {current} already")
                )
            )),
        }
    }
}

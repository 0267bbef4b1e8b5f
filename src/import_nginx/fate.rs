//! What becomes of each directive that is not looked at for its meaning. What is in no list here is named in the report.

/// Why a directive is neither taken over nor missed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// Where it matters, its meaning is in `proxy.toml` or in the report already.
    Read,
    /// The gateway has no need of it, for this reason.
    Needless(&'static str),
    /// The gateway cannot do it, and says so in these words.
    Lost(&'static str),
    /// Nobody here knows it.
    Unknown,
}

pub(super) fn fate(name: &str) -> Fate {
    if READ.contains(&name) {
        return Fate::Read;
    }
    let in_list = |list: &'static [(&str, &[&str])]| {
        list.iter()
            .find(|(_, names)| names.contains(&name))
            .map(|(reason, _)| *reason)
    };
    if let Some(reason) = in_list(NEEDLESS) {
        Fate::Needless(reason)
    } else if let Some(loss) = in_list(LOST) {
        Fate::Lost(loss)
    } else {
        Fate::Unknown
    }
}

/// Told apart by `meaning`.
const READ: &[&str] = &[
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_jwt",
    "auth_request",
    "client_header_timeout",
    "client_max_body_size",
    "deny",
    "if",
    "keepalive_timeout",
    "large_client_header_buffers",
    "limit_except",
    "listen",
    "location",
    "map",
    "proxy_http_version",
    "proxy_pass",
    "proxy_set_header",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "real_ip_header",
    "return",
    "satisfy",
    "server",
    "server_name",
    "set",
    "set_real_ip_from",
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_crl",
    "ssl_protocols",
    "ssl_trusted_certificate",
    "ssl_verify_client",
    "upstream",
    "worker_shutdown_timeout",
];

const NEEDLESS: &[(&str, &[&str])] = &[
    (
        "Nginx's own housekeeping, without a meaning here",
        &[
            "daemon",
            "env",
            "events",
            "load_module",
            "master_process",
            "pcre_jit",
            "pid",
            "thread_pool",
            "types",
            "user",
            "default_type",
            "charset",
            "server_names_hash_bucket_size",
            "server_names_hash_max_size",
            "server_tokens",
            "types_hash_bucket_size",
            "types_hash_max_size",
            "variables_hash_bucket_size",
            "variables_hash_max_size",
            "map_hash_bucket_size",
            "map_hash_max_size",
            "worker_cpu_affinity",
            "worker_priority",
            "worker_processes",
            "worker_rlimit_nofile",
            "underscores_in_headers",
            "ignore_invalid_headers",
            "merge_slashes",
            "resolver",
            "resolver_timeout",
            "server_name_in_redirect",
            "port_in_redirect",
            "absolute_redirect",
            "etag",
            "if_modified_since",
            "log_not_found",
            "log_subrequest",
            "log_format",
            "open_log_file_cache",
            "open_file_cache",
            "open_file_cache_errors",
            "open_file_cache_min_uses",
            "open_file_cache_valid",
            "root",
            "index",
            "error_page",
            "msie_padding",
            "max_ranges",
            "chunked_transfer_encoding",
            "proxy_headers_hash_bucket_size",
            "proxy_headers_hash_max_size",
            "real_ip_recursive",
            "log_format_combined",
            "proxy_intercept_errors",
        ],
    ),
    (
        "Bodies of any size are streamed, both ways, with no buffer on disk and no time in which a transfer must be done",
        &[
            "aio",
            "client_body_buffer_size",
            "client_body_in_file_only",
            "client_body_temp_path",
            "client_body_timeout",
            "directio",
            "output_buffers",
            "postpone_output",
            "proxy_buffer_size",
            "proxy_buffering",
            "proxy_buffers",
            "proxy_busy_buffers_size",
            "proxy_connect_timeout",
            "proxy_ignore_client_abort",
            "proxy_max_temp_file_size",
            "proxy_read_timeout",
            "proxy_request_buffering",
            "proxy_send_timeout",
            "proxy_temp_file_write_size",
            "proxy_temp_path",
            "read_ahead",
            "send_timeout",
            "sendfile",
            "sendfile_max_chunk",
            "tcp_nodelay",
            "tcp_nopush",
            "client_header_buffer_size",
            "client_body_in_single_buffer",
            "reset_timedout_connection",
        ],
    ),
    (
        "Connections to clients and to Incus are kept and reused as Incus has it",
        &[
            "keepalive",
            "keepalive_requests",
            "keepalive_time",
            "keepalive_disable",
            "http2",
            "http2_max_concurrent_streams",
            "http2_recv_buffer_size",
            "http2_body_preread_size",
            "http2_chunk_size",
            "http2_idle_timeout",
            "http2_max_field_size",
            "http2_max_header_size",
            "http2_max_requests",
            "http2_recv_timeout",
            "proxy_socket_keepalive",
            "lingering_close",
            "lingering_time",
            "lingering_timeout",
            "zone",
            "least_conn",
            "ip_hash",
            "hash",
            "random",
            "proxy_next_upstream",
            "proxy_next_upstream_timeout",
            "proxy_next_upstream_tries",
        ],
    ),
    (
        "TLS 1.3 and 1.2 with what is safe of their ciphers is all there is, towards clients and towards Incus",
        &[
            "proxy_ssl_ciphers",
            "proxy_ssl_conf_command",
            "proxy_ssl_name",
            "proxy_ssl_protocols",
            "proxy_ssl_server_name",
            "proxy_ssl_session_reuse",
            "proxy_ssl_verify_depth",
            "ssl_buffer_size",
            "ssl_ciphers",
            "ssl_conf_command",
            "ssl_dhparam",
            "ssl_early_data",
            "ssl_ecdh_curve",
            "ssl_prefer_server_ciphers",
            "ssl_session_cache",
            "ssl_session_ticket_key",
            "ssl_session_tickets",
            "ssl_session_timeout",
            "ssl_stapling",
            "ssl_stapling_file",
            "ssl_stapling_responder",
            "ssl_stapling_verify",
            "ssl_verify_depth",
            "ssl_reject_handshake",
        ],
    ),
    (
        "Requests and answers go through as they are; the lists for strangers are compressed for who asks for it",
        &[
            "gunzip",
            "gzip",
            "gzip_buffers",
            "gzip_comp_level",
            "gzip_disable",
            "gzip_http_version",
            "gzip_min_length",
            "gzip_proxied",
            "gzip_static",
            "gzip_types",
            "gzip_vary",
            "proxy_pass_header",
            "proxy_pass_request_body",
            "proxy_pass_request_headers",
            "proxy_redirect",
            "proxy_cache_bypass",
            "proxy_no_cache",
            "proxy_hide_header",
        ],
    ),
    (
        "The list for strangers is kept for `public.refresh`, and images are not cached",
        &[
            "proxy_cache",
            "proxy_cache_key",
            "proxy_cache_lock",
            "proxy_cache_methods",
            "proxy_cache_min_uses",
            "proxy_cache_path",
            "proxy_cache_revalidate",
            "proxy_cache_use_stale",
            "proxy_cache_valid",
            "proxy_store",
        ],
    ),
    (
        "The log goes to stderr, hence to systemd's journal; `log.level` says what of it",
        &["access_log", "error_log", "rewrite_log"],
    ),
];

const LOST: &[(&str, &[&str])] = &[
    (
        "the gateway adds no headers of its own to answers",
        &["add_header", "add_trailer", "expires"],
    ),
    (
        "the gateway counts in its own way: `limits.requests` and `limits.connections_per_address` of each address, on the public port",
        &[
            "limit_conn",
            "limit_conn_status",
            "limit_conn_zone",
            "limit_conn_log_level",
            "limit_req",
            "limit_req_status",
            "limit_req_zone",
            "limit_req_log_level",
            "limit_rate",
            "limit_rate_after",
            "limit_conn_dry_run",
            "limit_req_dry_run",
        ],
    ),
    (
        "the gateway serves no files; let Nginx keep serving them, on another port",
        &["alias", "autoindex", "try_files"],
    ),
    (
        "private keys must not be encrypted; decrypt it with `openssl pkey`",
        &["ssl_password_file", "proxy_ssl_password_file"],
    ),
    (
        "certificates of Incus are not held against a list of revoked ones; the pinned one alone counts",
        &["proxy_ssl_crl"],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_directive_has_one_fate() {
        let mut seen = HashSet::new();
        let listed = NEEDLESS.iter().chain(LOST).flat_map(|(_, names)| *names).chain(READ);
        for name in listed {
            assert!(seen.insert(name), "{name}");
        }
    }
}

//! The classification of each directive. The lists contain directives known to be harmless on the route to Incus. Any other
//! directive in effect there may have rejected requests, so it holds the port back (`access_conditions`).

use crate::directive::Directive;

/// How a directive is handled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Support {
    /// Another module interprets it, and reports what it cannot translate.
    Interpreted,
    /// The gateway does not need it, for this reason.
    NotNeeded(&'static str),
    /// The gateway has no equivalent, for this reason. Its absence gives no client more access.
    Unsupported(&'static str),
    /// Not in any list: it may do anything, including reject requests.
    Unknown,
}

/// Looks up how a directive is handled.
pub(crate) fn support(directive: &Directive) -> Support {
    let name = directive.name.as_str();
    if INTERPRETED.contains(&name) {
        return Support::Interpreted;
    }
    let is_this = |entry: &&str| match entry.split_once(' ') {
        Some((entry, value)) => entry == name && directive.value() == value,
        None => *entry == name,
    };
    let in_list = |list: &'static [(&str, &[&str])]| {
        list.iter()
            .find(|(_, entries)| entries.iter().any(is_this))
            .map(|(reason, _)| *reason)
    };
    let is_of_other_upstreams =
        || OTHER_UPSTREAMS.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with("_pass");
    if let Some(reason) = in_list(NOT_NEEDED) {
        Support::NotNeeded(reason)
    } else if let Some(reason) = in_list(UNSUPPORTED) {
        Support::Unsupported(reason)
    } else if is_of_other_upstreams() {
        Support::NotNeeded("It applies to upstreams with other protocols")
    } else {
        Support::Unknown
    }
}

/// Prefixes of directives for upstreams with other protocols than HTTP. They have no effect on `proxy_pass`.
const OTHER_UPSTREAMS: &[&str] = &["fastcgi_", "grpc_", "memcached_", "scgi_", "uwsgi_"];

const INTERPRETED: &[&str] = &[
    "allow",
    "break",
    "client_header_timeout",
    "client_max_body_size",
    "deny",
    "if",
    "internal",
    "keepalive_timeout",
    "large_client_header_buffers",
    "limit_except",
    "listen",
    "location",
    "geo",
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
    "server",
    "server_name",
    "set",
    "set_real_ip_from",
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_crl",
    "ssl_ocsp",
    "ssl_protocols",
    "ssl_trusted_certificate",
    "split_clients",
    "ssl_verify_client",
    "upstream",
    "worker_shutdown_timeout",
];

const NOT_NEEDED: &[(&str, &[&str])] = &[
    (
        "Internals of Nginx, without an equivalent here",
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
            "charset_types",
            "disable_symlinks",
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
            "auth_basic_user_file",
            "auth_delay",
            "connection_pool_size",
            "early_hints",
            "override_charset",
            "recursive_error_pages",
            "request_pool_size",
            "source_charset",
            "subrequest_output_buffer_size",
            "status_zone",
            "vhost_traffic_status",
            "vhost_traffic_status_zone",
            "proxy_intercept_errors",
        ],
    ),
    (
        "Bodies of any size are streamed in both directions, without buffers on disk and without a time limit for the transfer",
        &[
            "aio",
            "aio_write",
            "client_body_buffer_size",
            "client_body_in_file_only",
            "client_body_temp_path",
            "client_body_timeout",
            "directio",
            "directio_alignment",
            "output_buffers",
            "postpone_output",
            "proxy_buffer_size",
            "proxy_buffering",
            "proxy_buffers",
            "proxy_limit_rate",
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
            "send_lowat",
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
        "Connections to clients and to Incus are kept alive and reused automatically",
        &[
            "keepalive",
            "keepalive_min_timeout",
            "keepalive_requests",
            "keepalive_time",
            "keepalive_disable",
            "http2",
            "http2_max_concurrent_pushes",
            "http2_push",
            "http2_push_preload",
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
            "proxy_bind",
            "lingering_close",
            "lingering_time",
            "lingering_timeout",
            "zone",
            "least_conn",
            "ip_hash",
            "hash",
            "random",
            "ntlm",
            "queue",
            "state",
            "sticky",
            "proxy_next_upstream",
            "proxy_next_upstream_timeout",
            "proxy_next_upstream_tries",
        ],
    ),
    (
        "TLS is always 1.3 or 1.2 with safe ciphers, for clients and for Incus",
        &[
            "proxy_ssl_ciphers",
            "proxy_ssl_certificate_cache",
            "proxy_ssl_conf_command",
            "proxy_ssl_name",
            "proxy_ssl_protocols",
            "proxy_ssl_server_name",
            "proxy_ssl_session_reuse",
            "proxy_ssl_verify_depth",
            "ssl_buffer_size",
            "ssl_ciphers",
            "ssl_conf_command Ciphersuites",
            "ssl_conf_command Curves",
            "ssl_conf_command Groups",
            "ssl_conf_command MinProtocol",
            "ssl_conf_command Options",
            "ssl_certificate_cache",
            "ssl_certificate_compression",
            "ssl_dhparam",
            "ssl_early_data",
            "ssl_ecdh_curve",
            "ssl_ocsp_cache",
            "ssl_ocsp_responder",
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
        ],
    ),
    (
        "Requests and responses are forwarded unchanged; the lists for strangers are compressed on request",
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
            "brotli",
            "brotli_buffers",
            "brotli_comp_level",
            "brotli_min_length",
            "brotli_static",
            "brotli_types",
            "brotli_window",
            "gunzip_buffers",
            "more_clear_headers",
            "more_clear_input_headers",
            "more_set_headers",
            "more_set_input_headers",
            "zstd",
            "zstd_comp_level",
            "zstd_min_length",
            "zstd_static",
            "zstd_types",
            "proxy_pass_header",
            "proxy_pass_request_body on",
            "proxy_pass_request_headers on",
            "proxy_pass_trailers",
            "proxy_cookie_domain",
            "proxy_cookie_flags",
            "proxy_cookie_path",
            "proxy_force_ranges",
            "proxy_ignore_headers",
            "proxy_redirect",
            "proxy_cache_bypass",
            "proxy_no_cache",
            "proxy_hide_header",
        ],
    ),
    (
        "The list for strangers is cached for `public.max_age`, and images are not cached",
        &[
            "proxy_cache",
            "proxy_cache_background_update",
            "proxy_cache_convert_head",
            "proxy_cache_max_range_offset",
            "proxy_cache_lock_age",
            "proxy_cache_lock_timeout",
            "slice",
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
        "The log goes to stderr, hence to systemd's journal; `log.level` sets its level",
        &["access_log", "error_log", "rewrite_log", "uninitialized_variable_warn"],
    ),
    (
        "It is off or has its default, as in the gateway",
        &[
            "auth_basic off",
            "auth_digest off",
            "auth_gss off",
            "auth_jwt off",
            "auth_ldap off",
            "auth_pam off",
            "auth_request off",
            "modsecurity off",
            "satisfy all",
            "ssl_reject_handshake off",
        ],
    ),
    (
        "It only defines variables or modules; directives that use them on the route to Incus are reported separately",
        &[
            "geoip2",
            "geoip_city",
            "geoip_country",
            "geoip_org",
            "geoip_proxy",
            "geoip_proxy_recursive",
            "js_import",
            "js_path",
            "js_set",
            "js_var",
            "lua_package_cpath",
            "lua_package_path",
            "lua_shared_dict",
            "perl_set",
            "valid_referers",
        ],
    ),
];

const UNSUPPORTED: &[(&str, &[&str])] = &[
    (
        "the gateway adds no headers to responses",
        &["add_header", "add_trailer", "expires"],
    ),
    (
        "the gateway has its own limits: `limits.requests_per_second` and `limits.max_connections_per_address`, per client address on the public port",
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
        &["alias", "autoindex"],
    ),
    (
        "the gateway does not mirror requests",
        &["mirror", "mirror_request_body"],
    ),
    (
        "the gateway supports HTTP/1.1 and HTTP/2, over TCP",
        &[
            "http3",
            "http3_hq",
            "http3_max_concurrent_streams",
            "http3_stream_buffer_size",
            "quic_active_connection_id_limit",
            "quic_bpf",
            "quic_gso",
            "quic_host_key",
            "quic_retry",
        ],
    ),
    (
        "the gateway sends no traces",
        &[
            "otel_exporter",
            "otel_service_name",
            "otel_span_attr",
            "otel_span_name",
            "otel_trace",
            "otel_trace_context",
        ],
    ),
    (
        "private keys must not be encrypted; decrypt it with `openssl pkey`",
        &["ssl_password_file", "proxy_ssl_password_file"],
    ),
    (
        "Incus's certificate is not checked against a revocation list; only the pinned one is accepted",
        &["proxy_ssl_crl"],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_directive_is_classified_once() {
        let mut seen = HashSet::new();
        let list = NOT_NEEDED
            .iter()
            .chain(UNSUPPORTED)
            .flat_map(|(_, names)| *names)
            .chain(INTERPRETED);
        for name in list {
            assert!(seen.insert(name), "{name}");
        }
    }
}

"""What stands elsewhere: tests that show a demand and do not name it, modules that keep one and do not cite its clause.

By the demand's key. A test is `file::test` below tests/, a module a path below the repository; both must exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_IDENTITY = "integration/identity/test_identity_"
_TOKEN = f"{_IDENTITY}token_endpoint.py::test_"
_ASSERTION = f"{_IDENTITY}private_key_jwt.py::test_"
_LISTENERS = f"{_IDENTITY}listeners.py::test_"
_REVOKE = f"{_IDENTITY}revocation.py::test_"
_REGISTER = f"{_IDENTITY}registration.py::test_"
_ASK = f"{_IDENTITY}introspection_public.py::test_"
_INTERNAL = f"{_IDENTITY}introspection.py::test_"
_DEVICE = f"{_IDENTITY}device_grant.py::test_"
_EXCHANGE = f"{_IDENTITY}token_exchange.py::test_"
_CERTIFICATE = f"{_IDENTITY}client_certificates.py::test_"
_DPOP = f"{_IDENTITY}dpop.py::test_"
_METADATA = f"{_IDENTITY}metadata.py::test_"
_OPENID = f"{_IDENTITY}openid.py::test_"
_FAPI = "integration/identity/test_fapi2_security_profile.py::test_"
_CODE = "integration/identity/test_attack_code_flow.py::test_"
_REFRESH = "integration/identity/test_attack_refresh.py::test_"
_PAGES = "integration/identity/pages/test_pages_attacks.py::test_"
_PROVE = "integration/identity/test_attack_client_authentication.py::test_"
_GATE = "integration/test_gate.py::test_"
_BOUND = "integration/test_bound_tokens.py::test_"
_PASSKEY = "unit/identity/test_people_passkeys.py::test_"
_PERSON = "unit/identity/test_people_attacks.py::test_"
_CREDENTIALS = "unit/identity/test_identity_credentials.py::test_"

SHOWN: Mapping[str, tuple[str, ...]] = {
    "RFC 6749 §2.3 (1)": (
        f"{_TOKEN}two_methods_of_authentication_are_refused",
        f"{_PROVE}two_proofs_at_once_are_refused",
    ),
    "RFC 6749 §2.3.1 (2)": (
        f"{_LISTENERS}failures_are_throttled_by_client_and_others_go_on",
        f"{_LISTENERS}guessing_many_clients_is_throttled_by_address_but_not_for_the_proven",
    ),
    "RFC 6749 §3.1 (2)": (f"{_OPENID}a_repeated_parameter_is_told_to_the_client",),
    "RFC 6749 §3.2 (1)": (f"{_TOKEN}get_is_not_allowed",),
    "RFC 6749 §10.10 (1)": (f"{_FAPI}5_4_4_credentials_hold_256_random_bits",),
    "RFC 6749 §10.12 (1)": (f"{_PAGES}another_site_cannot_send_any_form",),
    "RFC 6749 §10.13 (1)": (f"{_PAGES}no_page_can_be_framed_kept_or_made_to_load_from_elsewhere",),
    "RFC 6749 §10.15 (1)": (
        f"{_OPENID}sign_out_is_no_open_redirect",
        f"{_PAGES}signing_in_leads_nowhere_but_to_our_own_pages",
    ),
    "OAuth 2.1 §1.5 (1)": (f"{_LISTENERS}old_tls_is_not_spoken",),
    "OAuth 2.1 §4.2 (1)": (f"{_FAPI}5_3_2_1_2_the_password_grant_is_refused",),
    "OAuth 2.1 §7.5 (1)": (f"{_GATE}a_token_in_the_query_is_refused",),
    "RFC 6750 §2.3 (1)": (f"{_GATE}a_token_in_the_query_is_refused",),
    "RFC 6750 §3 (1)": (f"{_GATE}no_token_gets_401_with_a_challenge_and_the_metadata",),
    "RFC 6750 §3 (2)": (f"{_GATE}no_token_gets_401_with_a_challenge_and_the_metadata",),
    "RFC 6750 §3.1 (1)": (
        f"{_GATE}a_token_that_nobody_issued_gets_401",
        f"{_GATE}a_token_without_the_scope_gets_403_that_names_it",
    ),
    "RFC 6750 §5.3 (1)": (f"{_INTERNAL}an_expired_token_is_inactive",),
    "RFC 6750 §5.3 (2)": (f"{_TOKEN}resource_selects_the_audience",),
    "RFC 7009 §2.1 (1)": (
        f"{_REVOKE}a_client_cannot_revoke_what_is_not_its_own",
        f"{_REVOKE}revocation_needs_authentication",
    ),
    "RFC 7009 §2.2 (1)": (f"{_REVOKE}unknown_and_dead_tokens_are_revoked_without_complaint",),
    "RFC 7009 §2 (2)": (f"{_LISTENERS}old_tls_is_not_spoken",),
    "RFC 7521 §4.2 (1)": (f"{_ASSERTION}client_id_beside_the_assertion_must_agree",),
    "RFC 7523 §3 (7)": (
        f"{_ASSERTION}an_assertion_is_good_once",
        f"{_PROVE}an_assertion_used_at_one_server_is_used_at_all",
    ),
    "RFC 7523 §3 (9)": (f"{_ASSERTION}each_client_proves_with_its_own_key",),
    "RFC 7591 §2 (1)": (f"{_REGISTER}what_is_left_out_has_the_defaults_of_the_rfc",),
    "RFC 7591 §2 (2)": (f"{_REGISTER}metadata_that_cannot_be_kept_is_refused",),
    "RFC 7591 §2.1 (1)": (f"{_REGISTER}metadata_that_cannot_be_kept_is_refused",),
    "RFC 7591 §3 (1)": (f"{_REGISTER}without_a_good_token_nothing_is_registered",),
    "RFC 7591 §3.2.1 (2)": (f"{_REGISTER}a_client_registers_and_gets_tokens",),
    "RFC 7591 §3.2.2 (1)": (
        f"{_REGISTER}a_redirect_to_nowhere_good_is_refused",
        f"{_REGISTER}metadata_that_cannot_be_kept_is_refused",
    ),
    "RFC 7591 §5 (1)": (
        f"{_REGISTER}a_redirect_to_nowhere_good_is_refused",
        f"{_REGISTER}an_application_on_a_device_has_loopback_and_app_schemes",
    ),
    "RFC 7592 §2 (2)": (f"{_REGISTER}one_client_cannot_manage_another",),
    "RFC 7592 §2.1 (1)": (f"{_REGISTER}a_client_reads_itself_without_its_secret",),
    "RFC 7592 §2.2 (1)": (
        f"{_REGISTER}replacing_a_client_gives_a_new_registration_token",
        f"{_REGISTER}what_is_not_the_clients_to_say_is_refused",
    ),
    "RFC 7592 §2.3 (1)": (f"{_REGISTER}a_deleted_client_and_all_its_tokens_are_dead",),
    "RFC 7636 §4.1 (1)": (f"{_CODE}a_malformed_verifier_is_no_verifier",),
    "RFC 7636 §4.3 (1)": (f"{_CODE}downgrading_pkce_gives_no_code",),
    "RFC 7662 §2.2 (2)": (
        f"{_ASK}whatever_is_no_living_access_token_is_inactive",
        f"{_ASK}tokens_for_another_audience_are_inactive_to_it",
    ),
    "RFC 7662 §2.3 (1)": (f"{_ASK}without_authentication_nothing_is_said",),
    "RFC 7662 §4 (1)": (
        f"{_ASK}a_client_that_is_no_resource_server_learns_nothing_even_of_its_own",
        f"{_ASK}tokens_for_another_audience_are_inactive_to_it",
    ),
    "RFC 7662 §2.1 (3)": (f"{_LISTENERS}old_tls_is_not_spoken",),
    "RFC 8252 §7.1 (1)": (f"{_REGISTER}an_application_on_a_device_has_loopback_and_app_schemes",),
    "RFC 8252 §7.2 (1)": ("conformance/identity/test_oidcc_plans.py::test_basic_plan[oidcc-server]",),
    "RFC 8252 §8.4 (1)": (f"{_CODE}an_almost_right_loopback_uri_gets_nothing",),
    "RFC 8414 §2 (3)": (f"{_METADATA}every_endpoint_that_is_announced_is_there_and_below_the_issuer",),
    "RFC 8414 §3 (1)": (f"{_METADATA}an_issuer_with_a_path_has_its_endpoints_below_it",),
    "RFC 8628 §3.1 (1)": (f"{_DEVICE}a_confidential_client_must_prove_itself_to_get_codes",),
    "RFC 8628 §3.4 (1)": (f"{_DEVICE}a_stolen_device_code_is_no_good_to_another_client",),
    "RFC 8628 §3.5 (1)": (f"{_DEVICE}refused_expired_and_unknown_codes_get_their_errors",),
    "RFC 8628 §3.5 (2)": (f"{_DEVICE}who_polls_too_often_must_wait_longer_each_time",),
    "RFC 8628 §3.5 (3)": (f"{_DEVICE}who_polls_too_often_must_wait_longer_each_time",),
    "RFC 8628 §5.1 (1)": ("unit/identity/test_device_codes.py::test_guessing_user_codes_is_stopped_by_network",),
    "RFC 8628 §5.2 (1)": (f"{_CREDENTIALS}no_two_credentials_are_alike",),
    "RFC 8628 §5.4 (1)": (
        "unit/identity/test_device_codes.py::test_consent_is_always_asked_even_for_a_first_party_client",
    ),
    "RFC 8693 §1.1 (1)": (f"{_EXCHANGE}scopes_beyond_the_subject_token_are_refused",),
    "RFC 8693 §2.1 (2)": (f"{_EXCHANGE}other_tokens_and_types_are_refused",),
    "RFC 8693 §2.2.2 (1)": (f"{_EXCHANGE}a_dead_token_gives_nothing",),
    "RFC 8693 §2.2.2 (2)": (
        f"{_EXCHANGE}a_confused_deputy_cannot_reach_an_audience_that_is_not_registered_for_it",
    ),
    "RFC 8693 §4.1 (1)": (f"{_EXCHANGE}the_chain_of_actors_is_kept_newest_outside",),
    "RFC 8693 §4.1 (2)": (f"{_EXCHANGE}what_is_stored_of_the_actors_is_what_was_said",),
    "RFC 8705 §2 (1)": (f"{_CERTIFICATE}the_certificate_of_another_client_is_refused",),
    "RFC 8705 §2.1 (1)": (f"{_CERTIFICATE}a_certificate_of_the_ca_with_the_registered_name_is_its_client",),
    "RFC 8705 §2.1.2 (1)": ("unit/cli/test_cli_transcripts.py::test_every_kind_of_client",),
    "RFC 8705 §2.2 (1)": (
        f"{_CERTIFICATE}a_registered_certificate_is_taken_without_a_restart_and_dropped_with_its_client",
    ),
    "RFC 8705 §3 (2)": (f"{_BOUND}a_token_of_a_certificate_needs_that_certificate",),
    "RFC 8705 §3.3 (1)": (f"{_CERTIFICATE}the_metadata_name_the_listener",),
    "RFC 8705 §4 (1)": (f"{_CERTIFICATE}a_public_client_may_have_its_tokens_bound_to_a_certificate",),
    "RFC 8705 §7.1 (1)": (f"{_CERTIFICATE}a_client_rolls_its_certificate_over",),
    "RFC 8707 §2 (2)": (f"{_TOKEN}unknown_resource_is_refused",),
    "RFC 9068 §2.1 (1)": (f"{_INTERNAL}internal_token_is_an_access_token_for_the_upstream",),
    "RFC 9068 §2.2 (1)": (f"{_INTERNAL}internal_token_is_an_access_token_for_the_upstream",),
    "RFC 9068 §2.2.3 (1)": (f"{_TOKEN}introspection_tells_what_was_granted",),
    "RFC 9068 §5 (1)": (f"{_REGISTER}what_is_not_the_clients_to_say_is_refused",),
    "RFC 9101 §5.2 (1)": (f"{_CODE}a_request_uri_is_never_fetched",),
    "RFC 9449 §5 (2)": (f"{_DPOP}check_2_what_is_no_jwt_is_refused",),
    "RFC 9449 §5 (4)": (f"{_DPOP}a_client_registered_for_bound_tokens_gets_no_others",),
    "RFC 9449 §6.1 (1)": (f"{_ASK}of_a_bound_token_it_learns_the_key",),
    "RFC 9449 §7.1 (1)": (f"{_BOUND}a_stolen_token_is_worth_nothing_without_its_key",),
    "RFC 9449 §8.2 (1)": (f"{_DPOP}every_answer_to_a_proof_brings_a_fresh_nonce",),
    "RFC 9449 §11.1 (1)": (
        f"{_DPOP}a_proof_replayed_in_parallel_is_good_once",
        f"{_DPOP}neither_a_restart_nor_a_second_server_forgets_a_proof",
    ),
    "RFC 9449 §11.3 (1)": (f"{_DPOP}check_10_a_nonce_that_is_not_ours_or_not_fresh_is_refused",),
    "RFC 9470 §3 (1)": (f"{_BOUND}a_weak_sign_in_is_told_how_to_step_up",),
    "RFC 9470 §6.1 (1)": (f"{_ASK}of_a_person_it_learns_who_and_how_sure_and_no_session",),
    "RFC 9700 §2.3 (1)": (f"{_TOKEN}resource_selects_the_audience",),
    "RFC 9700 §2.4 (1)": (f"{_FAPI}5_3_2_1_2_the_password_grant_is_refused",),
    "RFC 9700 §2.2.2 (1)": (f"{_REFRESH}each_use_gives_another_token_of_the_same_grant",),
    "RFC 9700 §4.8.2 (1)": (f"{_CODE}leaving_the_verifier_out",),
    "RFC 9700 §4.12 (1)": (f"{_FAPI}5_3_2_2_10_and_11_the_browser_is_sent_on_with_303",),
    "RFC 9700 §4.16 (1)": (f"{_PAGES}no_page_can_be_framed_kept_or_made_to_load_from_elsewhere",),
    "RFC 9701 §4 (1)": (f"{_ASK}who_asks_for_it_gets_it_signed",),
    "RFC 9701 §5 (1)": (f"{_ASK}the_signed_answer_is_for_the_caller_and_by_us",),
    "RFC 9701 §5 (2)": (f"{_ASK}the_signed_answer_is_for_the_caller_and_by_us",),
    "RFC 9701 §5 (3)": (f"{_ASK}the_signed_answer_is_for_the_caller_and_by_us",),
    "RFC 9701 §6 (1)": (f"{_ASK}the_metadata_name_the_endpoint_and_how_to_prove_oneself",),
    "RFC 9701 §8.1 (1)": (f"{_ASK}a_signed_answer_is_no_access_token_and_no_assertion",),
    "RFC 9728 §3 (1)": (f"{_GATE}no_token_gets_401_with_a_challenge_and_the_metadata",),
    "RFC 9728 §3.3 (1)": (f"{_GATE}no_token_gets_401_with_a_challenge_and_the_metadata",),
    "RFC 9728 §5.1 (1)": (f"{_GATE}no_token_gets_401_with_a_challenge_and_the_metadata",),
    "OIDC Core §3.1.2.1 (6)": (f"{_OPENID}prompt_consent_asks_again",),
    "OIDC Core §10.1 (1)": (f"{_IDENTITY}keys.py::test_rotation_keeps_internal_tokens_good_and_was_announced",),
    "OIDC Core §15.1 (1)": ("conformance/identity/test_oidcc_plans.py::test_basic_plan_is_whole",),
    "OIDC Logout §2 (5)": (f"{_OPENID}a_hint_for_another_client_is_refused",),
    "OIDC Logout §6 (1)": (
        "unit/identity/test_people_sessions.py::test_ending_a_session_revokes_what_depends_on_it_and_only_that",
    ),
    "FAPI 2.0 §5.2.1 (1)": (f"{_LISTENERS}old_tls_is_not_spoken",),
    "FAPI 2.0 §5.3.2.1 (2)": (f"{_FAPI}5_3_2_1_2_the_password_grant_is_refused",),
    "FAPI 2.0 §5.3.2.1 (3)": (f"{_FAPI}5_3_2_1_3_public_clients_are_refused",),
    "FAPI 2.0 §5.3.2.1 (7)": (f"{_FAPI}5_3_2_1_7_there_is_no_open_redirector",),
    "FAPI 2.0 §5.3.2.1 (10)": (f"{_FAPI}5_3_2_1_10_the_server_provides_dpop_nonces",),
    "FAPI 2.0 §5.3.2.1 (14)": (f"{_FAPI}5_3_2_1_14_a_token_has_no_more_than_was_asked_for",),
    "FAPI 2.0 §5.3.2.1 (9)": (f"{_FAPI}5_3_2_1_9_refresh_tokens_are_not_rotated",),
    "FAPI 2.0 §5.3.2.2 (4)": (f"{_FAPI}5_3_2_2_4_pushed_requests_without_authentication_are_refused",),
    "FAPI 2.0 §5.3.2.2 (2)": (f"{_FAPI}5_3_2_2_2_requests_are_pushed_by_clients_that_prove_themselves",),
    "FAPI 2.0 §5.3.2.2 (8)": (f"{_FAPI}5_3_2_2_8_redirects_without_encryption_are_refused",),
    "FAPI 2.0 §5.3.2.2 (10)": (f"{_FAPI}5_3_2_2_10_and_11_the_browser_is_sent_on_with_303",),
    "FAPI 2.0 §5.3.2.2 (11)": (f"{_FAPI}5_3_2_2_10_and_11_the_browser_is_sent_on_with_303",),
    "FAPI 2.0 §5.3.4 (1)": (f"{_GATE}a_token_in_the_query_is_refused",),
    "FAPI 2.0 §5.3.4 (2)": (
        f"{_GATE}a_revoked_token_is_refused_within_a_second",
        f"{_GATE}a_token_without_the_scope_gets_403_that_names_it",
    ),
    "FAPI 2.0 §5.3.4 (3)": (
        f"{_BOUND}a_stolen_token_is_worth_nothing_without_its_key",
        f"{_BOUND}a_token_of_a_certificate_needs_that_certificate",
    ),
    "FAPI 2.0 §5.4.1 (1)": (f"{_FAPI}5_4_1_rs256_is_not", f"{_FAPI}5_4_2_rsa_keys_are_2048_bits_at_least"),
    "FAPI 2.0 §5.4.2 (1)": (f"{_IDENTITY}admin.py::test_keys_with_the_same_kid_are_refused",),
    "WebAuthn §7.1 (2)": (
        f"{_PASSKEY}options_ask_for_what_the_server_checks_and_name_nobody",
        "integration/identity/pages/test_pages_in_chromium.py::test_a_passkey_is_made_and_signs_in_by_button_and_by_autofill",
    ),
    "WebAuthn §7.1 (4)": (f"{_PASSKEY}another_persons_passkey_neither_registers_twice_nor_steps_up",),
    "WebAuthn §7.2 (1)": (
        f"{_PASSKEY}a_passkey_alone_is_a_phishing_resistant_sign_in",
        f"{_PASSKEY}another_persons_passkey_neither_registers_twice_nor_steps_up",
    ),
    "WebAuthn §7.2 (2)": (f"{_PASSKEY}what_was_not_asked_for_signs_nobody_in",),
    "WebAuthn §7.2 (3)": (f"{_PASSKEY}what_was_not_asked_for_signs_nobody_in",),
    "WebAuthn §7.2 (4)": (f"{_PASSKEY}what_was_not_asked_for_signs_nobody_in",),
    "WebAuthn §7.2 (5)": (f"{_PASSKEY}a_counter_that_does_not_rise_is_taken_for_a_clone",),
    "WebAuthn §13.4.3 (1)": (
        f"{_PASSKEY}a_passkey_answer_is_good_once_and_in_its_browser_only",
        f"{_PASSKEY}a_challenge_does_not_outlive_its_time",
    ),
    "WebAuthn §14.6.2 (1)": (f"{_PASSKEY}options_ask_for_what_the_server_checks_and_name_nobody",),
    "RFC 6238 §4.1 (1)": (
        "integration/identity/pages/test_pages_in_chromium.py::test_an_authenticator_app_is_set_up_and_asked_for_from_then_on",
    ),
    "RFC 6238 §5.1 (1)": (
        f"{_PERSON}a_stolen_database_yields_no_usable_credential",
        f"{_PERSON}a_totp_secret_moved_to_another_account_opens_nothing",
    ),
    "RFC 6238 §5.2 (1)": (f"{_PERSON}one_code_of_an_app_signs_in_once_however_many_try_at_once",),
    "RFC 6238 §5.2 (2)": (f"{_PERSON}a_code_is_good_for_one_step_either_way",),
    "RFC 6238 §5.1 (2)": (f"{_LISTENERS}old_tls_is_not_spoken",),
}  # fmt: skip

_AUTHORIZE = "src/stockade/identity/endpoints/authorization_request.py"
_TLS = "src/stockade/identity/tls.py"
_JWT = "src/stockade/identity/client_auth/private_key_jwt.py"
_LOGOUT = "src/stockade/identity/endpoints/logout.py"
_CREDENTIAL = "src/stockade/identity/credentials.py"
_ENGINE = "crates/engine/src/plan/security.rs"

DONE: Mapping[str, tuple[str, ...]] = {
    "RFC 6749 §10.3 (1)": (_TLS, _CREDENTIAL),
    "RFC 6749 §10.5 (1)": (_TLS, "src/stockade/identity/tokens/code.py"),
    "RFC 6749 §10.10 (1)": (_CREDENTIAL,),
    "RFC 6749 §10.13 (1)": ("src/stockade/identity/pages/headers.py",),
    "RFC 6749 §10.15 (1)": (_AUTHORIZE, _LOGOUT),
    "OAuth 2.1 §1.5 (1)": (_TLS,),
    "OAuth 2.1 §2.3.1 (1)": ("src/stockade/identity/clients_metadata.py",),
    "OAuth 2.1 §4.1.1 (1)": (_AUTHORIZE,),
    "OAuth 2.1 §4.1.2 (1)": (_AUTHORIZE,),
    "OAuth 2.1 §4.2 (1)": ("src/stockade/identity/grants/__init__.py",),
    "OAuth 2.1 §4.3.1 (1)": ("src/stockade/identity/grants/refresh_token.py",),
    "OAuth 2.1 §7.5 (1)": ("crates/engine/src/plan/credential.rs", "src/stockade/identity/endpoints/form.py"),
    "RFC 6750 §5.3 (1)": ("src/stockade/identity/config.py",),
    "RFC 6750 §5.3 (2)": ("src/stockade/identity/tokens/access.py",),
    **{f"RFC 7009 §2.1 ({each})": ("src/stockade/identity/endpoints/revoke.py",) for each in (1, 2, 3)},
    **{f"RFC 7521 §{each}": (_JWT,) for each in ("4.2 (1)", "4.2.1 (1)", "5.2 (1)", "5.2 (2)", "5.2 (3)")},
    "RFC 7636 §4.4 (1)": ("src/stockade/identity/tokens/code.py",),
    "RFC 7636 §4.4.1 (1)": (_AUTHORIZE,),
    "RFC 7636 §7.2 (1)": (_AUTHORIZE,),
    "RFC 7662 §2.3 (1)": ("src/stockade/identity/endpoints/introspect_public.py",),
    "RFC 7662 §4 (1)": ("src/stockade/identity/endpoints/introspect_public.py",),
    "RFC 8252 §8.1 (1)": (_AUTHORIZE,),
    "RFC 8252 §8.4 (1)": ("src/stockade/identity/clients_metadata.py",),
    "RFC 8252 §8.5 (1)": ("src/stockade/identity/client_auth/none.py",),
    "RFC 8693 §1.1 (1)": ("src/stockade/identity/grants/token_exchange.py",),
    "RFC 9068 §2.1 (1)": ("src/stockade/identity/tokens/internal.py",),
    "RFC 9068 §5 (1)": ("src/stockade/identity/endpoints/registration_request.py",),
    "RFC 9101 §5.2 (1)": ("src/stockade/identity/endpoints/authorize.py",),
    "RFC 9126 §2.3 (1)": ("src/stockade/identity/apps.py",),
    "RFC 9126 §7.3 (1)": ("src/stockade/identity/endpoints/par.py",),
    "RFC 9470 §4 (1)": (_AUTHORIZE,),
    "RFC 9700 §2.2.2 (1)": ("src/stockade/identity/grants/refresh_token.py",),
    "RFC 9700 §2.3 (1)": ("src/stockade/identity/tokens/access.py",),
    "RFC 9700 §2.4 (1)": ("src/stockade/identity/grants/__init__.py",),
    "RFC 9700 §2.6 (1)": ("src/stockade/identity/endpoints/cors.py",),
    "RFC 9700 §4.4.2 (1)": ("src/stockade/identity/endpoints/authorize.py",),
    "RFC 9700 §4.8.2 (1)": ("src/stockade/identity/grants/authorization_code.py",),
    "RFC 9728 §3.2 (1)": ("crates/engine/src/plan/mod.rs",),
    "RFC 9728 §3.3 (1)": ("crates/engine/src/plan/mod.rs",),
    "OIDC Core §3.1.3.2 (1)": ("src/stockade/identity/grants/authorization_code.py",),
    "OIDC Core §3.1.3.3 (1)": ("src/stockade/identity/tokens/id_token.py",),
    "OIDC Core §5.1 (1)": ("src/stockade/identity/endpoints/userinfo.py",),
    "OIDC Core §8 (1)": ("src/stockade/identity/admin_people.py",),
    "OIDC Core §10.1 (1)": ("src/stockade/identity/keys/keyring.py",),
    "OIDC Core §12.1 (1)": ("src/stockade/identity/grants/refresh_token.py",),
    "OIDC Core §15.1 (1)": (_AUTHORIZE,),
    "OIDC Core §16.11 (1)": ("src/stockade/identity/grants/authorization_code.py",),
    **{f"OIDC Logout §{each}": (_LOGOUT,) for each in ("3 (1)", "3 (2)", "6 (1)")},
    "FAPI 2.0 §5.2.1 (1)": (_TLS,),
    "FAPI 2.0 §5.2.2 (1)": ("src/stockade/identity/pages/headers.py",),
    "FAPI 2.0 §5.3.4 (1)": ("crates/engine/src/plan/credential.rs",),
    "FAPI 2.0 §5.3.4 (2)": (_ENGINE,),
    "FAPI 2.0 §5.3.4 (3)": (_ENGINE,),
    "FAPI 2.0 §5.4.2 (1)": ("src/stockade/identity/client_rules.py",),
    "WebAuthn §13.4.3 (1)": ("src/stockade/identity/mfa/passkeys.py",),
    "WebAuthn §14.6.2 (1)": ("src/stockade/identity/mfa/passkeys.py",),
    "RFC 6238 §4.1 (1)": ("src/stockade/identity/mfa/totp.py",),
    "RFC 6238 §5.1 (1)": ("src/stockade/identity/mfa/totp.py",),
    "RFC 6238 §5.1 (2)": (_TLS,),
}  # fmt: skip

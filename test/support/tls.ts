// A certificate for HTTPS on loopback in tests: self-signed for localhost and 127.0.0.1, valid from 2020 to 2120. The
// key is public, being published here. Clients trust it by `ca: LOOPBACK_TLS.cert`.
import type { TlsIdentity } from './ghcr/ghcr.ts';

export const LOOPBACK_TLS: TlsIdentity = {
  cert: `-----BEGIN CERTIFICATE-----
MIIBZjCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNZM17xDUeWCeh3b
T96Nic5+U1x/V8xeUTD9x+XQIxiAXgBtPzEyddfi/8t22ckXLavOXitcBVj9i222
r0tOD2SjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBR4TjfoaVkuQ3DfyvBAuIUj+gwKmzAKBggqhkjOPQQD
AgNHADBEAiBmJdbLFVaY6L+EiwKK/bpzQWfqJiFUH6vikxmcPeFg+QIgfdLxfXVQ
Axyku+KP7zy7xpO9TRIkSIbeOrLY2UY4Nck=
-----END CERTIFICATE-----`,
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVEzIao8IjGc0k0Yu
HbpOBKHGDlObzsmy6Dm2ReREEu6hRANCAATWTNe8Q1Hlgnod20/ejYnOflNcf1fM
XlEw/cfl0CMYgF4AbT8xMnXX4v/LdtnJFy2rzl4rXAVY/Ytttq9LTg9k
-----END PRIVATE KEY-----`,
};

// What the programs share: a conversation with the test over standard input and output, one JSON document a line.
// The test plays the person: it answers {"visit": url} with {"callback": url}, the address the browser was sent to.

import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { Agent, fetch as undiciFetch } from 'undici'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

export async function read() {
  const { value } = await lines.next()
  return JSON.parse(value)
}

export function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

export async function ask(question) {
  say(question)
  return read()
}

export const stand = await read()

/** Run a program to its end: its result, or the error as the library reports it. */
export async function judge(program) {
  try {
    say({ result: await program() })
  } catch (error) {
    const { name, message, code, status, error: oauth, error_description: description } = error
    const cause = error.cause instanceof Error ? String(error.cause) : (error.cause ?? null)
    say({ failed: { name, message, code, status, error: oauth, description, cause } })
  }
  process.exit(0)
}

/** The client as the test registered it, from what the server says of itself. */
export async function configuration() {
  const options = { algorithm: stand.oauth2 ? 'oauth2' : 'oidc' }
  if (stand.certificate) options[client.customFetch] = certified()
  const metadata = { ...stand.metadata, ...(stand.certificate && { use_mtls_endpoint_aliases: true }) }
  const config = await client.discovery(new URL(stand.issuer), stand.client_id, metadata, await authentication(), options)
  if (!stand.oauth2) client.enableNonRepudiationChecks(config)
  return config
}

async function authentication() {
  switch (stand.auth) {
    case 'client_secret_basic':
      return client.ClientSecretBasic(stand.client_secret)
    case 'private_key_jwt':
      return client.PrivateKeyJwt({ key: await privateKey(stand.key), kid: stand.key.kid })
    case 'tls_client_auth':
    case 'self_signed_tls_client_auth':
      return client.TlsClientAuth()
    default:
      return client.None()
  }
}

async function privateKey(jwk) {
  const algorithm = jwk.kty === 'EC' ? { name: 'ECDSA', namedCurve: jwk.crv } : { name: 'RSA-PSS', hash: 'SHA-256' }
  const { use, key_ops, alg, ...bare } = jwk
  return crypto.subtle.importKey('jwk', bare, algorithm, false, ['sign'])
}

/** Requests that show the client's certificate. */
function certified() {
  const dispatcher = new Agent({
    connect: { cert: readFileSync(stand.certificate), key: readFileSync(stand.certificate_key), ca: readFileSync(stand.ca) },
  })
  return (url, options) => undiciFetch(url, { ...options, dispatcher })
}

export async function dpop(config) {
  return stand.dpop ? client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) : undefined
}

/** What the gate answers to the token. */
export async function call(config, token, url, options) {
  const answer = await client.fetchProtectedResource(config, token, new URL(url), 'GET', undefined, undefined, options)
  return { status: answer.status, body: await answer.text(), challenge: answer.headers.get('www-authenticate') }
}

/** An attempt that should fail, as status and OAuth error. */
export async function refused(attempt) {
  try {
    await attempt()
    return null
  } catch (error) {
    // A 401 with a challenge is reported as such; what the body says is in the response.
    const body = error.error === undefined && error.response ? await error.response.clone().json() : error
    return { status: error.status ?? null, error: body.error ?? null, message: error.message }
  }
}

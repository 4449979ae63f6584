// A client that registers itself, then works with what it was given, reads and removes its registration.

import * as client from 'openid-client'
import { call, judge, refused, stand } from './judge.mjs'

await judge(async () => {
  const server = new URL(stand.issuer)
  const config = await client.dynamicClientRegistration(server, stand.metadata, client.ClientSecretBasic(), {
    initialAccessToken: stand.initial_access_token,
    algorithm: 'oidc',
  })
  const registered = config.clientMetadata()
  const tokens = await client.clientCredentialsGrant(config, { scope: stand.scope })
  const api = stand.api ? await call(config, tokens.access_token, stand.api) : null
  const headers = { authorization: `Bearer ${registered.registration_access_token}` }
  const managed = registered.registration_client_uri
  const seen = await fetch(managed, { headers })
  const read = { status: seen.status, body: await seen.json() }
  const current = read.body.registration_access_token ?? registered.registration_access_token
  const removal = await fetch(managed, { method: 'DELETE', headers: { authorization: `Bearer ${current}` } })
  const gone = removal.status
  const after = await refused(() => client.clientCredentialsGrant(config, { scope: stand.scope }))
  const { client_secret, registration_access_token, ...shown } = registered
  return { registered: shown, has_secret: client_secret !== undefined, scope: tokens.scope, api, read, gone, after }
})

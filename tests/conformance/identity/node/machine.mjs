// A program acts for itself: client credentials, the API, introspection, exchange, revocation.

import * as client from 'openid-client'
import { call, configuration, dpop, judge, stand } from './judge.mjs'

await judge(async () => {
  const config = await configuration()
  const options = { DPoP: await dpop(config) }
  const tokens = await client.clientCredentialsGrant(config, { scope: stand.scope, ...stand.parameters }, options)
  const result = { token_type: tokens.token_type, scope: tokens.scope, expires_in: tokens.expiresIn() }
  if (stand.api) result.api = await call(config, tokens.access_token, stand.api, options)
  if (stand.introspect) result.introspection = await client.tokenIntrospection(config, tokens.access_token)
  if (stand.exchange) result.exchanged = await exchange(config, tokens, options)
  if (stand.revoke) {
    await client.tokenRevocation(config, tokens.access_token)
    if (stand.introspect) result.introspection_after = await client.tokenIntrospection(config, tokens.access_token)
    if (stand.api) result.token = tokens.access_token
  }
  return result
})

async function exchange(config, tokens, options) {
  const kind = 'urn:ietf:params:oauth:token-type:access_token'
  const answer = await client.genericGrantRequest(
    config,
    'urn:ietf:params:oauth:grant-type:token-exchange',
    { subject_token: stand.subject_token ?? tokens.access_token, subject_token_type: kind, ...stand.exchange },
    options,
  )
  const { access_token, ...rest } = answer
  const introspection = stand.introspect ? await client.tokenIntrospection(config, access_token) : null
  const api = stand.api ? await call(config, access_token, stand.api, options) : null
  return { ...rest, introspection, api }
}

// The `oidc-provider` package: a real OpenID Connect provider. Prints, on one line, its issuer, the
// address of its key set and an access token it has issued to a client for the gateway; serves
// until its input ends.
import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const modules = createRequire(join(process.env.SDK_MODULES, 'index.js'))
const { Provider } = await import(pathToFileURL(modules.resolve('oidc-provider')))

const server = createServer().listen(0, '127.0.0.1')
await new Promise((ready) => server.once('listening', ready))
const issuer = `http://127.0.0.1:${server.address().port}`

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const key = { ...privateKey.export({ format: 'jwk' }), kid: 'signing-1', use: 'sig', alg: 'RS256' }
const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients: [
    {
      client_id: 'support-bot',
      client_secret: 'sk-canary-oidc-client',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  ttl: { ClientCredentials: 600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:tollgate',
      getResourceServerInfo: () => ({
        scope: 'agents',
        audience: 'tollgate',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
})
server.on('request', provider.callback())

const found = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()
const basic = Buffer.from('support-bot:sk-canary-oidc-client').toString('base64')
const answer = await fetch(found.token_endpoint, {
  method: 'POST',
  headers: { authorization: `Basic ${basic}` },
  body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'agents' }),
})
const granted = await answer.json()
if (!answer.ok) throw new Error(JSON.stringify(granted))
console.log(JSON.stringify({ issuer: found.issuer, jwks: found.jwks_uri, token: granted.access_token }))

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))

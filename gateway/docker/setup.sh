# Makes what docker-compose.yml needs before its first start. What is there already stays as it is,
# so that it may run before every start.
#
#   /var/lib/tollgate-valkey/users.acl         who may log in to Valkey: the hash of a random password
#   /var/lib/tollgate-shared/valkey-password   that password, for the gateways alone
#   /var/lib/tollgate-shared/vault/            keys of the two demonstration tenants, made up
set -eu
shared=/var/lib/tollgate-shared valkey=/var/lib/tollgate-valkey

if ! [ -s "$shared/valkey-password" ] || ! [ -s "$valkey/users.acl" ]; then
  umask 077
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$shared/valkey-password.new"
  hash=$(sha256sum <"$shared/valkey-password.new" | cut -d ' ' -f 1)
  # Anybody on the network may ask whether Valkey lives, and nothing else.
  {
    echo "user default on nopass resetkeys resetchannels -@all +ping"
    echo "user tollgate on #$hash resetkeys resetchannels ~tollgate:* -@all +@read +@write +@scripting +@connection +wait +info +cluster +time"
  } >"$valkey/users.acl.new"
  chmod 0444 "$valkey/users.acl.new"
  mv "$shared/valkey-password.new" "$shared/valkey-password"
  mv "$valkey/users.acl.new" "$valkey/users.acl"
  echo "setup: Valkey has a password"
fi

for key in acme/openai acme/anthropic acme/gemini globex/openai; do
  tenant=${key%/*} provider=${key#*/}
  if ! [ -e "$shared/vault/$tenant/${provider}_key" ]; then
    printf 'sk-demo-%s-%s-not-a-real-key' "$tenant" "$provider" |
      tollgate secret set --tenant "$tenant" --name "${provider}_key"
    echo "setup: $tenant has a made-up key for $provider"
  fi
done

-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- What a mail of ours is signed with: { domain, selector, key }, or false.
-- Who sent it has logged in, or it is this host's own (bounces, vacation answers). Whether the login may use the envelope's sender was Postfix's
-- question, and forged.lua's whether the header's is the same; here the header's domain has to be the envelope's, so that nobody gets a signature
-- for a domain that is not his.

local rspamd_util = require "rspamd_util"
local ours = require "platform/ours"

-- The domain that may sign, or nil.
local function signer(task)
  local from = task:get_from("mime")
  local header = ours.domain_of(from)
  if not header or #from ~= 1 then return nil end
  local login = task:get_user()
  local envelope = ours.domain_of(task:get_from("smtp"))
  if login and envelope then return envelope == header and header or nil end
  if login then return (login:match("@([^@]+)$") or ""):lower() == header and header or nil end
  -- What has come from elsewhere, and is sent on by a user's script, is no mail of ours.
  if task:get_header("Received") then return nil end
  local address = task:get_from_ip()
  return address and address:is_valid() and address:is_local() and header or nil
end

return function(task)
  local domain = signer(task)
  local selector = ours.selector(domain)
  if not selector then return false end
  local key = string.format("%s/%s/%s.key", ours.DIRECTORY, domain, selector)
  if not rspamd_util.file_exists(key) then return false end
  return { domain = domain, selector = selector, key = key }
end

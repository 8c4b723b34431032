-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Viruses: each mail as a whole, and each attachment as Rspamd decodes it, is given to clamd through its socket before anything else is asked.
-- A mail goes on only when clamd said OK to all of it, or where its limits end. Every other answer, and none, is a temporary refusal: the sender tries again.
-- (Rspamd's own antivirus module lets a mail through when clamd answers with an error, such as too long a stream.)

local rspamd_logger = require "rspamd_logger"
local rspamd_tcp = require "rspamd_tcp"
local rspamd_util = require "rspamd_util"

local options = rspamd_config:get_all_opt("platform") or {}
local SOCKET = "/run/mail/clamav/clamd"
-- clamd takes a text for a mail by its first line, which a sender could choose.
local FIRST_LINE = "Received: from scan\r\n"
local ATTACHMENTS_MAX = 100
-- What clamd says (AlertExceedsMax) of what it did not read to its end: too much in it, or too slow.
local LIMITS = "Heuristics.Limits.Exceeded"

local function refuse(task, symbol, action, text, why)
  task:insert_result(symbol, 1.0, why)
  task:set_pre_result({ action = action, message = text, module = "antivirus", priority = 20 })
end

local function away(task, why)
  rspamd_logger.errx(task, "clamav: no verdict: %s", why)
  refuse(task, "CLAM_VIRUS_FAIL", "soft reject", "The virus scanner is away, try again later", tostring(why))
end

-- Nobody knows what is in it, so it goes to Junk. What our own people send stays as it is.
local function unseen(task, limit)
  task:insert_result("CLAM_LIMITS", 1.0, limit)
  if not task:get_user() then
    task:set_pre_result({ action = "add header", message = "Not all of it could be scanned", module = "antivirus", flags = "least" })
  end
end

-- What clamd is asked: a list of pairs, what stands before a content and the content.
local function questions(task)
  local list = { { FIRST_LINE, task:get_content() } }
  for _, part in ipairs(task:get_parts() or {}) do
    if #list > ATTACHMENTS_MAX then break end
    local content = not part:is_multipart() and (not part:is_text() or part:get_filename()) and part:get_content()
    if content and #content > 0 then table.insert(list, { "", content }) end
  end
  return list
end

local function ask(task, list, place)
  local question = list[place]
  if not question then
    if not task:has_symbol("CLAM_LIMITS") then task:insert_result("CLAM_CLEAN", 0.0) end
    return
  end
  local before, content = question[1], question[2]
  local function answered(err, data)
    if err then return away(task, err) end
    local answer = tostring(data):gsub("%z", "")
    if answer == "stream: OK" then return ask(task, list, place + 1) end
    local virus = answer:match("^stream: (.+) FOUND$")
    if not virus then return away(task, answer) end
    if virus:find(LIMITS, 1, true) == 1 then
      unseen(task, virus)
      return ask(task, list, place + 1)
    end
    refuse(task, "CLAM_VIRUS", "reject", "Virus found: " .. virus, virus)
  end
  local sent = rspamd_tcp.request({
    task = task,
    host = SOCKET,
    port = 0,
    timeout = tonumber(options.antivirus_seconds) or 45,
    callback = answered,
    stop_pattern = "\0",
    data = { "zINSTREAM\0", rspamd_util.pack(">I4", #before + #content), before, content, rspamd_util.pack(">I4", 0) },
  })
  if not sent then away(task, "cannot connect to " .. SOCKET) end
end

local id = rspamd_config:register_symbol({
  name = "CLAM_VIRUS",
  type = "prefilter",
  priority = 10,
  group = "antivirus",
  score = 0.0,
  callback = function(task) ask(task, questions(task), 1) end,
})
for _, name in ipairs({ "CLAM_VIRUS_FAIL", "CLAM_CLEAN", "CLAM_LIMITS" }) do
  rspamd_config:register_symbol({ name = name, type = "virtual", parent = id, group = "antivirus", score = 0.0 })
end

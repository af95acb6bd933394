"""What the page says, in English and in Chinese. The Chinese names are those of the seller tools that
sellers know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal, format_percent

from streams.dashboard.selection import Lang

#: By name: English, Chinese.
_WORDS: Final[dict[str, tuple[str, str]]] = {
    # pages
    "page loss": ("Loss now", "实时流失"),
    "page where": ("Where they went", "流失去向"),
    "page items": ("Items", "商品流失"),
    "page buyers": ("Lapsing buyers", "沉睡预警"),
    "page lifecycle": ("Lifecycle", "生命周期"),
    "page segments": ("Segments", "人群"),
    "page products": ("Product matrix", "商品矩阵"),
    "page report": ("Shop report", "店铺报告"),
    "page pipeline": ("Pipeline", "数据管道"),
    # around them
    "skip": ("Skip to the content", "跳到内容"),
    "pages": ("Pages", "页面"),
    "shop": ("Shop", "店铺"),
    "all shops": ("All shops", "全部店铺"),
    "span": ("Span", "时间范围"),
    "days 1": ("24 hours", "24 小时"),
    "days 7": ("7 days", "7 天"),
    "days 14": ("14 days", "14 天"),
    "days 30": ("30 days", "30 天"),
    "days 90": ("90 days", "90 天"),
    "apply": ("Show", "查看"),
    "theme auto": ("Auto", "自动"),
    "theme light": ("Light", "浅色"),
    "theme dark": ("Dark", "深色"),
    "appearance": ("Appearance", "外观"),
    "language": ("Language", "语言"),
    "read up to": ("Everything read up to {at}", "数据完整至 {at}"),
    "nothing read": ("The pipeline has read nothing yet.", "尚未读取任何数据。"),
    "away": (
        "ClickHouse does not answer; what is shown is as of {at}. {why}",
        "ClickHouse 无响应；所示为 {at} 的数据。{why}",
    ),
    "failed": ("This could not be read. {why}", "无法读取。{why}"),
    "sql": ("SQL", "SQL"),
    "sql of": ("The SQL of: {title}", "查询语句：{title}"),
    "sql says": (
        "This is what was asked; it runs as it stands in any ClickHouse client.",
        "所示数字由此查询得出，可在任何 ClickHouse 客户端中直接运行。",
    ),
    "asked": ("The answer now: {rows} rows in {ms} ms", "当前结果：{rows} 行，用时 {ms} 毫秒"),
    "back": ("Back", "返回"),
    "as table": ("As a table", "以表格查看"),
    "empty": ("Nothing in this span.", "该时间范围内没有数据。"),
    "no windows": (
        "No minutes have been judged yet. They are told by the shops agent: ebbtide worker --agents shops",
        "尚无按分钟的判定；由 shops 代理提供：ebbtide worker --agents shops",
    ),
    "choose shop": ("This is about one shop. Choose one above.", "此页针对单个店铺，请在上方选择。"),
    "operator": (
        "Exact, and so for the marketplace's operator alone. A seller may see the view leak_destinations.",
        "精确数据，仅供平台运营方查看；商家可见的是视图 leak_destinations。",
    ),
    "before": ("before: {value}", "上期：{value}"),
    "sorted by": ("Sort by {column}", "按{column}排序"),
    "login": ("Sign in", "登录"),
    "token": ("Access token", "访问令牌"),
    "wrong token": ("That is not the token.", "令牌不正确。"),
    # panels
    "figures": ("Sessions and loss", "访问与流失"),
    "curve": ("Loss rate, and what was expected", "流失率与预期"),
    "stages": ("Lost, by stage", "各阶段流失"),
    "loss alerts": ("Spikes in loss", "流失突增"),
    "destinations": ("Shops they bought in", "流向店铺"),
    "flows": ("From shop and category to shop", "店铺与类目流向"),
    "reasons": ("Why they left, by their own evidence", "流失原因（按自身证据）"),
    "item_loss": ("Items by visitors lost", "商品流失"),
    "item_days": ("This item, day by day", "该商品每日"),
    "leak_flows": ("What was bought in its place", "去向商品"),
    "lapsing_buyers": ("Lapsing, and whom to care about first", "沉睡预警"),
    "customer_profile": ("Profile", "画像"),
    "customer_evidence": ("What happened, and why", "事件与原因"),
    "customer_sessions": ("Sessions", "访问"),
    "stages_now": ("Customers by stage", "各阶段人数"),
    "stage_moves": ("From stage to stage", "阶段流转"),
    "tiers": ("Tiers", "客户等级"),
    "segments_now": ("Segments", "人群"),
    "segment_people": ("Who is in it", "人群成员"),
    "product_matrix": ("Items by what they do for the shop", "商品定位"),
    "ingest": ("What became of the records", "数据去向"),
    "watermarks": ("How far each partition has come", "各分区进度"),
    "dead_letters": ("Dead letters", "死信"),
    "pipeline alerts": ("Is the data sound?", "数据是否可靠"),
    "hooks": ("Hooks", "通知"),
    # figures and columns
    "sessions": ("sessions", "访问"),
    "lost": ("lost", "流失"),
    "closed": ("closed", "已结束"),
    "loss_rate": ("loss rate", "流失率"),
    "expected": ("expected", "预期"),
    "band": ("band", "警戒线"),
    "out": ("minutes out", "越界分钟"),
    "bounced": ("bounced", "跳失"),
    "browsed": ("browsed", "浏览流失"),
    "favorited": ("favorited", "收藏流失"),
    "carted": ("carted", "加购流失"),
    "recovered": ("recovered", "挽回"),
    "value_at_risk": ("value at risk", "流失风险金额"),
    "revenue": ("revenue", "成交金额"),
    "at": ("time", "时间"),
    "day": ("day", "日期"),
    "active_carts": ("active carts", "活跃购物车"),
    "orders": ("orders", "订单"),
    "shop_id": ("shop", "店铺"),
    "status": ("status", "状态"),
    "severity": ("severity", "级别"),
    "signal": ("signal", "信号"),
    "scope_value": ("of", "对象"),
    "began_at": ("began", "开始"),
    "resolved_at": ("resolved", "解除"),
    "observed": ("observed", "实际"),
    "drivers": ("driven by", "主要来源"),
    "summary": ("summary", "摘要"),
    "to_shop_id": ("bought in", "购买店铺"),
    "to_item_id": ("bought", "购买商品"),
    "buyers": ("buyers", "买家"),
    "after_cart": ("after cart", "加购后"),
    "after_favorite": ("after favorite", "收藏后"),
    "amount": ("leaked amount", "购买流失金额"),
    "order_amount": ("amount of these orders", "订单金额"),
    "category": ("category", "类目"),
    "kind": ("kind", "类型"),
    "reason": ("reason", "原因"),
    "own_reason": ("reason", "原因"),
    "losses": ("losses", "流失数"),
    "customers": ("customers", "顾客"),
    "share": ("share", "占比"),
    "score": ("mean score", "平均得分"),
    "item_id": ("item", "商品"),
    "visitors": ("visitors", "访客"),
    "bought_item": ("bought it", "购买该商品"),
    "bought_similar": ("bought similar here", "购买本店同类"),
    "bought_other": ("bought other here", "购买本店其他"),
    "bought_elsewhere": ("bought elsewhere", "在别处购买"),
    "nothing": ("bought nothing", "未购买"),
    "lost_after_cart": ("lost after cart", "加购后流失"),
    "lost_after_favorite": ("lost after favorite", "收藏后流失"),
    "conversion": ("conversion", "转化率"),
    "customer_id": ("customer", "顾客"),
    "tier": ("tier", "等级"),
    "last_order_on": ("last order", "最近订单"),
    "silent_days": ("silent, days", "静默天数"),
    "usual_gap_days": ("usual gap, days", "惯常间隔（天）"),
    "next_order_on": ("expected by", "预计下单"),
    "overdue_days": ("overdue, days", "逾期天数"),
    "p_alive": ("chance of ever buying again", "再次购买概率"),
    "p_return_90d": ("chance of buying in 90 days", "90 天购买概率"),
    "purchase_days": ("purchase days", "购买天数"),
    "monetary": ("net revenue", "净成交金额"),
    "discount_affinity": ("orders with discount", "折扣订单占比"),
    "preferred_categories": ("prefers", "偏好类目"),
    "last_seen_at": ("last seen", "最近到访"),
    "stage": ("stage", "阶段"),
    "stage_since": ("since", "自"),
    "said": ("what", "内容"),
    "evidence": ("evidence", "依据"),
    "started_at": ("began", "开始"),
    "outcome": ("outcome", "结果"),
    "lost_stage": ("lost stage", "流失阶段"),
    "events": ("events", "事件"),
    "channel": ("channel", "渠道"),
    "cart_value": ("cart at close", "结束时购物车"),
    "from_stage": ("from", "从"),
    "to_stage": ("to", "到"),
    "cause": ("cause", "原因"),
    "r": ("recency score", "近度得分"),
    "f": ("frequency score", "频度得分"),
    "m": ("monetary score", "金额得分"),
    "median_recency_days": ("median days since order", "距最近订单天数中位数"),
    "median_purchase_days": ("median purchase days", "购买天数中位数"),
    "segment": ("segment", "人群"),
    "members": ("members", "成员"),
    "entered": ("entered", "进入"),
    "by_silence": ("of these by silence", "其中因静默"),
    "left": ("left", "离开"),
    "since": ("since", "自"),
    "role": ("role", "类型"),
    "revenue_per_visitor": ("revenue per visitor", "访客价值"),
    "discount_share": ("discount share", "折扣占比"),
    "new_visitor_share": ("new visitors", "新访客占比"),
    "repeat_affinity": ("repeat buyers", "老买家占比"),
    "growth": ("growth", "增长"),
    "traffic_score": ("traffic score", "引流得分"),
    "profit_score": ("profit score", "利润得分"),
    "potential_score": ("potential score", "潜力得分"),
    "topic": ("topic", "主题"),
    "received": ("received", "收到"),
    "applied": ("applied", "已应用"),
    "duplicate": ("duplicate", "重复"),
    "late": ("late", "迟到"),
    "rejected": ("rejected", "拒收"),
    "partition": ("partition", "分区"),
    "watermark": ("read up to", "进度"),
    "behind_s": ("behind, seconds", "落后（秒）"),
    "records": ("records", "记录"),
    "latest": ("latest", "最近"),
    "detail": ("detail", "说明"),
    "bots": ("bots", "机器人"),
    "bought": ("bought it", "购买"),
    "visitors_before": ("visitors before", "上期访客"),
    "endpoint": ("endpoint", "端点"),
    "deliveries": ("deliveries", "通知数"),
    "attempts": ("attempts", "尝试"),
    "error": ("error", "错误"),
    # values
    "= converted": ("converted", "成交"),
    "= lost": ("lost", "流失"),
    "= bounced": ("bounced", "跳失"),
    "= browsed": ("browsed", "浏览流失"),
    "= favorited": ("favorited", "收藏流失"),
    "= carted": ("carted", "加购流失"),
    "= prospect": ("prospect", "潜客"),
    "= new": ("new", "新客"),
    "= active": ("active", "活跃"),
    "= lapsing": ("lapsing", "沉睡预警"),
    "= lapsed": ("lapsed", "流失客户"),
    "= won_back": ("won back", "回流"),
    "= price": ("price", "价格"),
    "= competition": ("competition", "竞争"),
    "= forgot": ("forgot", "遗忘"),
    "= dissatisfied": ("dissatisfied", "不满意"),
    "= variety": ("variety", "换新"),
    "= market": ("market", "市场"),
    "= detail": ("detail page", "详情页"),
    "= natural": ("natural", "自然流失"),
    "= unknown": ("unknown", "未知"),
    "= session": ("session", "访问"),
    "= lapse": ("lapse", "沉睡"),
    "= firing": ("firing", "告警中"),
    "= held": ("held", "暂缓"),
    "= resolved": ("resolved", "已解除"),
    "= warning": ("warning", "警告"),
    "= critical": ("critical", "严重"),
    "= traffic": ("traffic", "引流款"),
    "= profit": ("profit", "利润款"),
    "= potential": ("potential", "潜力款"),
    "= edge": ("edge", "边缘款"),
    "= unrated": ("unrated", "未评级"),
    "= order": ("order", "下单"),
    "= overdue": ("overdue", "逾期"),
    "= silence": ("silence", "静默"),
    "= refund": ("refund", "退款"),
    "= model": ("model", "模型"),
    "= time": ("time", "时间"),
    "= event": ("event", "事件"),
    "= rules": ("rules", "规则"),
}
_NONE: Final = "–"
#: Columns whose numbers are shares of one.
_SHARES: Final = frozenset(
    {"loss_rate", "expected", "observed", "band", "share", "conversion", "discount_affinity", "p_alive"}
    | {"p_return_90d", "discount_share", "new_visitor_share", "repeat_affinity"}
)
#: Columns of amounts in the row's own currency.
_AMOUNTS: Final = frozenset({"monetary", "cart_value", "revenue", "revenue_per_visitor"})
#: Columns whose text is one of a few words.
_CLOSED: Final = frozenset(
    {
        "stage",
        "from_stage",
        "to_stage",
        "cause",
        "reason",
        "own_reason",
        "kind",
        "status",
        "severity",
        "outcome",
    }
    | {"lost_stage", "role"}
)


class Words:
    """The page in one language; times in the IANA zone ``zone``."""

    def __init__(self, lang: Lang, zone: str) -> None:
        self.lang = lang
        self._second = lang == "zh"
        self._locale = "zh_Hans_CN" if lang == "zh" else "en"
        self._zone = ZoneInfo(zone)
        self._zone_name = zone

    def __getitem__(self, name: str) -> str:
        return _WORDS[name][self._second]

    def say(self, name: str, **parts: object) -> str:
        """The sentence of that name with its parts in their places."""
        return self[name].format(**parts)

    def of_value(self, value: str) -> str:
        """A word of the data, translated where it is one of the vocabulary."""
        found = _WORDS.get(f"= {value}")
        return value if found is None else found[self._second]

    def moment(self, ms: int) -> str:
        """A time (ms since 1970 UTC) in words, with its zone."""
        return f"{self._time(datetime.fromtimestamp(ms / 1000, self._zone))} {self._zone_name}"

    def cell(self, column: str, value: Any, row: Mapping[str, Any]) -> str:
        """A table's cell."""
        if value is None or value == "":
            return self["all shops"] if column == "shop_id" and value == "" else _NONE
        if isinstance(value, Mapping):
            return self.amounts(value)
        if column in _AMOUNTS:
            return self._amount(Decimal(value), row.get("currency"))
        if isinstance(value, bool):
            return "✓" if value else _NONE
        if isinstance(value, datetime):
            return self._time(value.astimezone(self._zone))
        if isinstance(value, date):
            return format_date(value, "medium", locale=self._locale)
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or _NONE
        if isinstance(value, int | float | Decimal):
            return self.number(column, value)
        return self.of_value(value) if column in _CLOSED else str(value)

    def number(self, column: str, value: int | float | Decimal) -> str:
        """A number as its column has it: a share, or a count, or with a decimal."""
        if column in _SHARES:
            return str(format_percent(value, format="#,##0.0%", locale=self._locale))
        shape = "#,##0" if value == int(value) else "#,##0.##"
        return str(format_decimal(value, format=shape, locale=self._locale))

    def amounts(self, by_currency: Mapping[str, Any]) -> str:
        """Amounts of several currencies, which are never added."""
        return self._joined(
            self._amount(Decimal(amount), currency)
            for currency, amount in sorted(by_currency.items(), key=lambda one: Decimal(one[1]), reverse=True)
        )

    def _joined(self, parts: Iterable[str]) -> str:
        return " · ".join(parts) or _NONE

    def _amount(self, amount: Decimal, currency: str | None) -> str:
        if not currency:
            return str(format_decimal(amount, format="#,##0.00", locale=self._locale))
        return str(format_currency(amount, currency, locale=self._locale))

    def _time(self, at: datetime) -> str:
        return str(format_datetime(at, "yyyy-MM-dd HH:mm", locale=self._locale))
